"""Safe migrations for this service: what `alembic` and `pdm run migrate-*` do, and how.

The template owns this folder, and `copier update` replaces it: put your own code elsewhere. A module imports only from
the floors below its own, or from one that stands above it on the same floor:

    roof      cli           python -m safe_migrations …
              quick         state --quick, without libraries that take long to import
    wings     authoring     how a new revision file is named, formatted, or left out
              development   the embedded PostgreSQL on a developer's machine
              backup        pg_dump and pg_restore
              locks         who blocks whom
              report        the state of a database, for people and machines
              trace         the locks that a revision takes, and the tables that it rewrites
              rehearsal     the pending revisions on a copy of the database
              deployment    state, backup, upgrade, verification
    floor 2   databases     creating and dropping databases
              runner        the one way in for every Alembic command that runs env.py
    floor 1   connection    connecting, and a sentence for each way in which that fails
              lock          one migration at a time
              operations    concurrent indexes in revision files
              state         what state a database is in, and what to do about it
              losses        what a downgrade would destroy
              apply         revisions, one by one, with retries
              embedded      PostgreSQL programs and the clusters that they run
    ground    errors        what a person can put right, and the exit status
              confirm       asking a person
              environment   the environment's variables and .env
              policy        every bound, from the environment
              catalog       what PostgreSQL tells of tables, indexes and sessions
"""
