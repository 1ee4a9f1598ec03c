"""`python -m microscopy_cls`."""

from microscopy_cls.cli.main import main

if __name__ == "__main__":
    main()
