"""Safe migrations for this service: what `alembic` and `pdm run migrate-*` do, and how.

The template owns this folder, and `copier update` replaces it: put your own code elsewhere. A module imports only
from the floors below its own:

    roof      cli           python -m safe_migrations …
    wings     authoring     how a new revision file is named, formatted, or left out
              development   the embedded PostgreSQL on a developer's machine
    floor 2   runner        the one way in for every Alembic command that runs env.py
              databases     creating and dropping databases
    floor 1   connection    connecting, and a sentence for each way in which that fails
              embedded      PostgreSQL programs and the clusters that they run
    ground    errors        what a person can put right, and the exit status
"""
