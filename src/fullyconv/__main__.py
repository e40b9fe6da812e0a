"""`python -m fullyconv`: the same as the command `fullyconv`."""

from fullyconv.cli import main

if __name__ == "__main__":
    main()
