-- A service of several tenants: schemas, row level security, references between schemas, names in every spelling.
CREATE SCHEMA auth;
CREATE SCHEMA "Billing";
CREATE EXTENSION pg_trgm SCHEMA public;
CREATE EXTENSION ltree;

CREATE TYPE auth."Role" AS ENUM ('owner', 'member', 'read-only');
CREATE DOMAIN auth.tenant_id AS uuid NOT NULL;
CREATE DOMAIN "Billing".cents AS bigint CONSTRAINT not_negative CHECK (VALUE >= 0);
CREATE COLLATION auth.exact (provider = libc, locale = 'C');

CREATE FUNCTION auth.current_tenant() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT nullif(current_setting('app.tenant', true), '')::uuid $$;

CREATE TABLE auth.tenants (
    id uuid DEFAULT gen_random_uuid() PRIMARY KEY,
    slug text COLLATE auth.exact NOT NULL CONSTRAINT tenants_slug_format CHECK (slug ~ '^[a-z][a-z0-9:-]+$'),
    "displayName" text NOT NULL,
    settings jsonb NOT NULL DEFAULT '{}'::jsonb,
    parent_id uuid,
    path ltree,
    metadata jsonb,
    CONSTRAINT tenants_slug_unique UNIQUE (slug)
);
ALTER TABLE auth.tenants ADD CONSTRAINT tenants_parent FOREIGN KEY (parent_id) REFERENCES auth.tenants (id);
CREATE INDEX tenants_path ON auth.tenants USING gist (path);

CREATE TABLE auth."user" (
    tenant_id auth.tenant_id DEFAULT auth.current_tenant() REFERENCES auth.tenants ON DELETE CASCADE,
    id bigint GENERATED ALWAYS AS IDENTITY,
    email text NOT NULL,
    role auth."Role" NOT NULL DEFAULT 'member'::auth."Role",
    roles auth."Role"[],
    password character varying(100),
    "class" text, "from" timestamp(0) with time zone, "2fa" boolean DEFAULT false NOT NULL,
    manager_id bigint,
    CONSTRAINT user_pkey PRIMARY KEY (tenant_id, id),
    CONSTRAINT user_manager FOREIGN KEY (tenant_id, manager_id) REFERENCES auth."user" (tenant_id, id) ON DELETE SET NULL (manager_id)
);
CREATE UNIQUE INDEX user_email_per_tenant ON auth."user" (tenant_id, lower(email));
CREATE INDEX user_email_trgm ON auth."user" USING gin (email gin_trgm_ops);

-- The tables of the same name in another schema, and one that quotes everything.
CREATE TABLE public."user" (id bigserial PRIMARY KEY, tenant uuid REFERENCES auth.tenants, note text);
CREATE TABLE "Billing"."Invoice Lines" (
    "Invoice" integer NOT NULL,
    "Line No" smallint NOT NULL,
    tenant_id uuid NOT NULL,
    user_id bigint NOT NULL,
    "Amount" "Billing".cents NOT NULL DEFAULT 0,
    "say ""what""?" text,
    "größe" numeric(6, 2),
    "100%" boolean,
    PRIMARY KEY ("Invoice", "Line No"),
    FOREIGN KEY (tenant_id, user_id) REFERENCES auth."user" (tenant_id, id) MATCH FULL DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX "Invoice Lines by: amount" ON "Billing"."Invoice Lines" ("Amount" DESC, ("100%" IS TRUE)) WHERE "say ""what""?" <> ':no';
COMMENT ON COLUMN "Billing"."Invoice Lines"."größe" IS 'It’s in cm – not in ″';
CREATE TABLE auth.membership (
    tenant_id uuid REFERENCES auth.tenants,
    user_id bigint REFERENCES public."user",
    PRIMARY KEY (user_id, tenant_id),
    CONSTRAINT ck_membership_ck CHECK (user_id > 0)
);
CREATE TABLE auth.audit (at timestamptz NOT NULL, tenant_id uuid, what text);
COMMENT ON TABLE auth.audit IS 'Without a key: only INSERT';

ALTER TABLE auth."user" ENABLE ROW LEVEL SECURITY;
ALTER TABLE auth."user" FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON auth."user" USING (tenant_id = auth.current_tenant()) WITH CHECK (tenant_id = auth.current_tenant());
ALTER TABLE "Billing"."Invoice Lines" ENABLE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON "Billing"."Invoice Lines" FOR SELECT USING (tenant_id = auth.current_tenant());
CREATE VIEW "Billing".totals WITH (security_invoker = true) AS
    SELECT tenant_id, sum("Amount") AS total FROM "Billing"."Invoice Lines" GROUP BY tenant_id;
CREATE RULE no_update AS ON UPDATE TO auth.audit DO INSTEAD NOTHING;
