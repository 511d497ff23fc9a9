"""Safe migrations for this service: what `alembic` and `pdm run migrate-*` do, and how.

The template owns this folder, and `pdm run template-update` replaces it: put your own code elsewhere. A module imports
only from the floors below its own, or from one that stands above it on the same floor:

    roof      cli               python -m safe_migrations …
              quick             state --quick, without libraries that take long to import
              template_cli      template-check and template-update, without the settings
    wings     authoring         how a new revision file is named and formatted
              column_changes    what a change of a column does to the rows
              enum_types        which column types are enums
              enum_changes      what becomes of enums when models change
              rendering         our operations in a revision file
              backfill_files    the file of a backfill, as autogenerate writes it
              series            the revisions of one change, in order
              differences       what autogenerate has found, seen as a whole
              constraint_forms  the safe form of indexes and constraints
              table_forms       … of tables that come and go
              default_forms     … of a column's new default
              type_forms        … of a column's new type
              column_forms      … of a change of columns
              safe_forms        … of each change
              autogenerate      from the differences to a series of revisions
              hooks             what env.py gives to autogenerate
              preview           the same, without writing a file
              history           which revisions are new, edited or deleted, and the file HEAD
              statements        what a statement does to which tables
              revisions         what a revision file says, and the SQL that it would run
              findings          what lint finds, for people and machines
              squawk            the linter of SQL, and its rules that hold here
              rule_table        the table of the rules of lint
              table_rules       rules of what a change does to tables in use
              code_rules        … of what running code needs, and of what is lost
              file_rules        … of how a revision is written
              rules             all of them
              lint              whether revisions are safe to run under traffic
              rebase            moving a branch's revisions onto the other head
              development       the embedded PostgreSQL on a developer's machine
              backup            pg_dump and pg_restore
              locks             who blocks whom
              report            the state of a database, for people and machines
              trace             what a revision does to the tables: locks, scans, rewrites
              deployment        state, backup, upgrade, verification
              progress          how far a backfill is: a bar, or a line now and then
              standbys          how far standbys are behind
              batches           the batches of a backfill: planned, claimed, done
              backfill          running a backfill, at a pace that others can bear
              rehearsal         the pending revisions on a copy of the database
              seed              rows for the tables of a scratch database
              verdict           what a phase allows, compared with what a revision does
              releases          what the template has released since this service was made or updated
              scratch           a service's committed files alone, and the way back from there
              template_update   the newest of them, brought into the service without losing an edit
    floor 2   databases         creating and dropping databases
              runner            the one way in for every Alembic command that runs env.py
    floor 1   connection        connecting, and a sentence for each way in which that fails
              lock              one migration at a time
              operations        concurrent indexes in revision files
              constraints       constraints in revision files, without a scan that keeps others out
              enums             enums in revision files, each made and dropped once
              phases            before or after the new code, and dangers to acknowledge
              backfills         what a backfill is, and whether it is complete
              state             what state a database is in, and what to do about it
              losses            what a downgrade would destroy
              apply             revisions, one by one, with retries
              embedded          PostgreSQL programs and the clusters that they run
              repository        git: what the main branch and the releases have
    ground    errors            what a person can put right, and the exit status
              confirm           asking a person
              environment       the environment's variables and .env
              policy            every bound, from the environment
              catalog           what PostgreSQL tells of tables, indexes and sessions
"""
