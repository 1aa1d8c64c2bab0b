-- Leases, checkpoints, outbox and inbox. Where a time is given it is told in place of the database's own clock, in tests.

-- Grants a lease: no row while another owner holds it. The holder keeps its token, everybody else gets a greater one.
CREATE FUNCTION {schema}.acquire_lease(
    p_name text, p_owner text, p_micros bigint, p_at timestamptz, OUT token bigint, OUT expires_at timestamptz
) RETURNS SETOF record LANGUAGE plpgsql AS $$
DECLARE
    ttl interval := p_micros * interval '1 microsecond';
BEGIN
    RETURN QUERY
    INSERT INTO {schema}.leases AS l (name, owner, token, expires_at)
    VALUES (p_name, p_owner, 1, coalesce(p_at, clock_timestamp()) + ttl)
    ON CONFLICT (name) DO UPDATE SET
        owner = excluded.owner,
        token = CASE
            WHEN l.owner = excluded.owner AND l.expires_at > coalesce(p_at, clock_timestamp()) THEN l.token
            ELSE l.token + 1
        END,
        expires_at = coalesce(p_at, clock_timestamp()) + ttl
    WHERE l.owner IS NULL OR l.owner = excluded.owner OR l.expires_at <= coalesce(p_at, clock_timestamp())
    RETURNING l.token, l.expires_at;
    IF NOT FOUND THEN
        -- A clock that was put back must not prolong it.
        UPDATE {schema}.leases AS l SET expires_at = coalesce(p_at, clock_timestamp()) + ttl
        WHERE l.name = p_name AND l.expires_at > coalesce(p_at, clock_timestamp()) + ttl;
    END IF;
END $$;

-- Moves a checkpoint: a compare-and-set. `p_mode` is any, at or reset. Says what is in the way: stale, mismatch or behind, and what there is.
CREATE FUNCTION {schema}.move_checkpoint(
    p_name text, p_mode text, p_expected bigint, p_position bigint, p_token bigint, p_at timestamptz, p_note text,
    OUT problem text, OUT actual bigint
) LANGUAGE plpgsql AS $$
DECLARE
    known boolean;
BEGIN
    IF p_token IS NOT NULL THEN
        -- Locked, so that no grant comes in between: one that is on its way is waited for.
        SELECT l.token INTO actual FROM {schema}.leases l WHERE l.name = p_name FOR SHARE;
        IF actual > p_token THEN
            problem := 'stale';
            RETURN;
        END IF;
    END IF;
    LOOP
        SELECT true, c.position INTO known, actual FROM {schema}.checkpoints c WHERE c.name = p_name FOR UPDATE;
        IF p_mode = 'at' AND actual IS DISTINCT FROM p_expected THEN
            problem := 'mismatch';
            RETURN;
        END IF;
        IF p_mode <> 'reset' AND actual IS NOT NULL AND (p_position IS NULL OR p_position < actual) THEN
            problem := 'behind';
            RETURN;
        END IF;
        IF known THEN
            UPDATE {schema}.checkpoints
            SET position = p_position, saved_at = coalesce(p_at, clock_timestamp()) WHERE name = p_name;
            EXIT;
        END IF;
        INSERT INTO {schema}.checkpoints (name, position, saved_at)
        VALUES (p_name, p_position, coalesce(p_at, clock_timestamp())) ON CONFLICT (name) DO NOTHING;
        EXIT WHEN FOUND;
        -- Another was first: it is looked at again.
    END LOOP;
    actual := NULL;
    PERFORM pg_notify('{schema}', p_note);
END $$;

-- Puts a message into the outbox, in the caller's own transaction. False if one of that id is there already.
CREATE FUNCTION {schema}.enqueue(
    kind text, message_id uuid, topic text, correlation_id text, body bytea, issued_at timestamptz DEFAULT NULL,
    max_retries integer DEFAULT NULL, traceparent text DEFAULT NULL, tracestate text DEFAULT NULL, baggage text DEFAULT NULL
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.outbox (
        kind, message_id, topic, correlation_id, body, issued_at, max_retries, traceparent, tracestate, baggage, enqueued_at
    ) VALUES ($1, $2, $3, $4, $5, coalesce($6, clock_timestamp()), $7, $8, $9, $10, clock_timestamp())
    ON CONFLICT ON CONSTRAINT outbox_by_message DO NOTHING;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM pg_notify('{schema}', 'messages');
    RETURN true;
END $$;

-- Records, in the caller's own transaction, that `handler` handles the message. False if it did before.
CREATE FUNCTION {schema}.inbox_claim(handler text, message_id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {schema}.inbox (handler, message_id, handled_at) VALUES ($1, $2, clock_timestamp())
    ON CONFLICT ON CONSTRAINT inbox_pkey DO NOTHING;
    RETURN FOUND;
END $$;

-- Moves the checkpoint of a view in this database, in the caller's own transaction: from `expected` (null: there is none) to `position`, under
-- the owner's `token`. Refused when another owner has saved since, or the view stands elsewhere.
CREATE FUNCTION {schema}.save_checkpoint(name text, expected bigint, "position" bigint, token bigint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    found_position bigint;
    found_token bigint;
BEGIN
    INSERT INTO {schema}.view_checkpoints AS v (name, position, token, saved_at)
    SELECT $1, $3, $4, clock_timestamp() WHERE $2 IS NULL
    ON CONFLICT ON CONSTRAINT view_checkpoints_pkey DO UPDATE
    SET position = excluded.position, token = excluded.token, saved_at = excluded.saved_at
    WHERE v.position IS NULL AND v.token <= excluded.token;
    IF FOUND THEN
        RETURN;
    END IF;
    UPDATE {schema}.view_checkpoints AS v SET position = $3, token = $4, saved_at = clock_timestamp()
    WHERE v.name = $1 AND v.position = $2 AND v.token <= $4;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT v.position, v.token INTO found_position, found_token FROM {schema}.view_checkpoints AS v WHERE v.name = $1;
    IF found_token > $4 THEN
        RAISE EXCEPTION 'lease %: token % is older than %', $1, $4, found_token
            USING ERRCODE = 'ORK08', DETAIL = jsonb_build_object('name', $1, 'token', $4, 'current', found_token)::text;
    END IF;
    RAISE EXCEPTION 'checkpoint %: expected %, found %', $1, coalesce($2::text, 'none'), coalesce(found_position::text, 'none')
        USING ERRCODE = 'ORK07', DETAIL = jsonb_build_object('name', $1, 'expected', $2, 'actual', found_position)::text;
END $$;
