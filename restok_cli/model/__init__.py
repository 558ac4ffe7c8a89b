"""The shared core: the tokenizer, the HAR generator, and how both are kept in a folder."""
