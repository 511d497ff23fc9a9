"""`python -m safe_migrations`."""

import sys

if __name__ == "__main__":
    if sorted(sys.argv[1:]) == ["--quick", "state"]:  # before the libraries that cli imports, which take its time
        from safe_migrations import probe as quick

        sys.exit(quick.main())
    if sys.argv[1:2] in (
        ["template-check"],
        ["template-update"],
    ):  # config.py may have a conflict
        from safe_migrations.template import commands as template_cli

        template_cli.main(sys.argv[1], sys.argv[2:])
    try:
        from safe_migrations import cli
    except ModuleNotFoundError as error:  # such as alembic.config, where only the folder alembic is found
        sys.exit(f"{error}: run it in the service's environment, pdm run python -m safe_migrations …")

    cli.main()
