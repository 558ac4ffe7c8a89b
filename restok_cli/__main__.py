"""`python -m restok_cli` is `restok`."""

from restok_cli.cli import main

if __name__ == "__main__":
    main()
