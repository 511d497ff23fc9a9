"""`python -m safe_migrations`."""

import sys

if __name__ == "__main__":
    if sorted(sys.argv[1:]) == ["--quick", "state"]:  # before the libraries that cli imports, which take its time
        from safe_migrations import quick

        sys.exit(quick.main())
    from safe_migrations import cli

    cli.main()
