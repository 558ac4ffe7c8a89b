"""The paper: the tokenizer, the HAR generator, and how codes are drawn from it."""
