"""`python -m campfire_fx` is `campfire-fx`."""

from campfire_fx.app.cli import main

if __name__ == "__main__":
    main()
