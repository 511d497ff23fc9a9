-- What PostgreSQL 18 has, and older ones don't.
CREATE EXTENSION btree_gist;
CREATE TABLE virtual (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 3) VIRTUAL);
CREATE TABLE not_enforced (a int, b int PRIMARY KEY);
ALTER TABLE not_enforced ADD CONSTRAINT later CHECK (a < 300) NOT ENFORCED;
ALTER TABLE not_enforced ADD CONSTRAINT later_too FOREIGN KEY (a) REFERENCES not_enforced NOT ENFORCED;
CREATE TABLE temporal (id int, during daterange, PRIMARY KEY (id, during WITHOUT OVERLAPS));
CREATE TABLE temporal_2 (id int, d daterange, x int, UNIQUE (x, d WITHOUT OVERLAPS), FOREIGN KEY (id, PERIOD d) REFERENCES temporal);
CREATE TABLE not_nulls (a int CONSTRAINT my_not_null NOT NULL, b int NOT NULL NO INHERIT, c int);
ALTER TABLE not_nulls ADD CONSTRAINT not_yet NOT NULL c NOT VALID;
