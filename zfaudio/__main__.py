"""`python -m zfaudio`."""

from zfaudio.cli import main

if __name__ == "__main__":
    main()
