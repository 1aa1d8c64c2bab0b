-- Appending. `{lock}` is held by whoever writes to the log, until the commit: positions are given and committed in one order.
--
-- Expectations are numbers: a revision, -1 no stream, -2 a stream, -4 anything. A last revision of -1 stands for no stream.

CREATE FUNCTION {schema}.holds(expected bigint, last bigint) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE expected WHEN -4 THEN true WHEN -1 THEN last = -1 WHEN -2 THEN last >= 0 ELSE last = expected END
$$;

-- The numbers of streams; those that are new get one. The lock is held.
CREATE FUNCTION {schema}.stream_ids(names text[]) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
BEGIN
    INSERT INTO {schema}.streams (name)
    SELECT n.name FROM unnest(names) AS n(name)
    WHERE NOT EXISTS (SELECT FROM {schema}.streams s WHERE s.name = n.name);
    SELECT array_agg(s.id) INTO ids
    FROM unnest(names) AS n(name)
    CROSS JOIN LATERAL (SELECT s.id FROM {schema}.streams s WHERE s.name = n.name LIMIT 1) s;
    RETURN ids;
END $$;

-- The numbers of types; those that are new get one.
CREATE FUNCTION {schema}.type_ids(names text[]) RETURNS integer[]
LANGUAGE plpgsql AS $$
DECLARE
    ids integer[];
BEGIN
    -- In one order everywhere: two that add the same names would wait for each other.
    INSERT INTO {schema}.types (name)
    SELECT n.name FROM unnest(names) AS n(name)
    WHERE NOT EXISTS (SELECT FROM {schema}.types t WHERE t.name = n.name)
    ORDER BY n.name COLLATE "C"
    ON CONFLICT DO NOTHING;
    SELECT array_agg(t.id) INTO ids
    FROM unnest(names) AS n(name) JOIN LATERAL (SELECT id FROM {schema}.types t WHERE t.name = n.name LIMIT 1) t ON true;
    RETURN ids;
END $$;

-- The first of `n` positions. The lock is held.
CREATE FUNCTION {schema}.take_positions(n bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    base bigint := nextval('{schema}.positions');
BEGIN
    IF n > 1 THEN
        PERFORM setval('{schema}.positions', base + n - 1);
    END IF;
    RETURN base;
END $$;

-- Moves the sequence of positions behind all that there are, where a restore has left it out: whoever meets a new generation does it.
CREATE FUNCTION {schema}.mend_positions() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    last bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({lock});
    SELECT e.position INTO last FROM {schema}.events e ORDER BY e.position DESC LIMIT 1;
    IF last > coalesce(pg_sequence_last_value('{schema}.positions'), 0) THEN
        PERFORM setval('{schema}.positions', last);
    END IF;
END $$;

-- Appends one batch as it comes in its turn, and says what became of it: an object with `revision` and `position` (and `repeated`), or
-- with `conflict`, or with `duplicate` and `stream`. The lock is held.
CREATE FUNCTION {schema}.append_one(
    p_stream text, p_expected bigint, p_ids uuid[], p_types integer[], p_versions integer[], p_times timestamptz[],
    p_data jsonb[], p_metadata json[]
) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    n integer := cardinality(p_ids);
    sid bigint;
    last bigint;
    base bigint;
    found record;
BEGIN
    SELECT id INTO sid FROM {schema}.streams WHERE name = p_stream;
    SELECT e.revision INTO last FROM {schema}.events e WHERE e.stream_id = sid ORDER BY e.revision DESC LIMIT 1;
    last := coalesce(last, -1);
    IF n = 0 THEN
        RETURN jsonb_build_object('revision', nullif(last, -1));
    END IF;
    SELECT count(*) AS stored,
           bool_and(e.stream_id = sid) AND max(e.revision - i.ord) = min(e.revision - i.ord) AS together,
           max(e.revision) AS revision, max(e.position) AS position,
           (array_agg(e.event_id ORDER BY i.ord))[1] AS id,
           (array_agg(e.stream_id ORDER BY i.ord))[1] AS stream_id
    INTO found
    FROM unnest(p_ids) WITH ORDINALITY AS i(id, ord)
    CROSS JOIN LATERAL (SELECT * FROM {schema}.events e WHERE e.event_id = i.id LIMIT 1) e;
    IF found.stored = n AND found.together THEN
        RETURN jsonb_build_object('revision', found.revision, 'position', found.position, 'repeated', true);
    ELSIF found.stored > 0 THEN
        RETURN jsonb_build_object('duplicate', found.id,
            'stream', (SELECT name FROM {schema}.streams WHERE id = found.stream_id));
    ELSIF NOT {schema}.holds(p_expected, last) THEN
        RETURN jsonb_build_object('conflict', nullif(last, -1));
    END IF;
    IF sid IS NULL THEN
        sid := ({schema}.stream_ids(ARRAY[p_stream]))[1];
    END IF;
    base := {schema}.take_positions(n);
    INSERT INTO {schema}.events
        (position, stream_id, revision, event_id, occurred_at, type_id, version, data, metadata)
    SELECT base + e.ord - 1, sid, last + e.ord, e.id, e.occurred_at, e.type_id, e.version, e.data, e.metadata
    FROM unnest(p_ids, p_types, p_versions, p_times, p_data, p_metadata)
        WITH ORDINALITY AS e(id, type_id, version, occurred_at, data, metadata, ord);
    RETURN jsonb_build_object('revision', last + n, 'position', base + n - 1);
END $$;

-- Whether users' transactions have left something; what was seen before, in tables of this generation, is not looked at again.
CREATE FUNCTION {schema}.any_staged(p_generation bigint) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN EXISTS (
        SELECT FROM {schema}.staging s WHERE s.refused IS NULL
            AND s.transaction >= coalesce((SELECT w.horizon FROM {schema}.staging_seen w WHERE w.id = 1 AND w.generation = p_generation), '0')
    ) OR EXISTS (
        SELECT FROM {schema}.staging s WHERE s.refused IS NULL
            AND s.transaction = ANY ((SELECT w.unfinished FROM {schema}.staging_seen w WHERE w.id = 1 AND w.generation = p_generation)::xid8[])
    );
END $$;

-- What they have left: the number of the call of each row, without those of the current transaction, up to 1,000. Of no generation (null)
-- everything is looked at again.
CREATE FUNCTION {schema}.staged(p_generation bigint) RETURNS SETOF bigint
LANGUAGE sql STABLE AS $$
    SELECT s.batch FROM (
        SELECT t.batch, t.transaction FROM {schema}.staging t WHERE t.refused IS NULL
            AND t.transaction >= coalesce((SELECT w.horizon FROM {schema}.staging_seen w WHERE w.id = 1 AND w.generation = p_generation), '0')
        UNION ALL
        SELECT t.batch, t.transaction FROM {schema}.staging t WHERE t.refused IS NULL
            AND t.transaction = ANY ((SELECT w.unfinished FROM {schema}.staging_seen w WHERE w.id = 1 AND w.generation = p_generation)::xid8[])
    ) s
    WHERE s.transaction IS DISTINCT FROM pg_current_xact_id_if_assigned()
    LIMIT 1000
$$;

-- Remembers that all is recorded, if it is, now and then. The lock is held, by a transaction that stages nothing itself.
CREATE FUNCTION {schema}.see_staged() RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    now_at bigint := {schema}.generation();
    calls bigint := coalesce(pg_sequence_last_value('{schema}.batches'), 0);
    seen {schema}.staging_seen;
    looked_to xid8 := '0';
BEGIN
    SELECT * INTO seen FROM {schema}.staging_seen w WHERE w.id = 1;
    IF seen.generation = now_at THEN
        IF calls BETWEEN seen.batch AND seen.batch + 999 THEN
            RETURN;
        END IF;
        looked_to := seen.horizon;
    END IF;
    -- One statement, as what is looked at and what is remembered of it are of one snapshot.
    UPDATE {schema}.staging_seen w
    SET generation = now_at, batch = calls, horizon = pg_snapshot_xmax(pg_current_snapshot()),
        unfinished = ARRAY(SELECT pg_snapshot_xip(pg_current_snapshot()))
    WHERE w.id = 1
        AND NOT EXISTS (SELECT FROM {schema}.staging s WHERE s.refused IS NULL AND s.transaction >= looked_to)
        AND NOT EXISTS (SELECT FROM {schema}.staging s WHERE s.refused IS NULL AND s.transaction = ANY (seen.unfinished));
END $$;

-- Records what users' transactions have staged: of those that are committed as much as one call should take, or with `p_own` all of the
-- current transaction; with `p_all` whatever was seen before. The lock is held. Returns how many calls of `append` were recorded and how many
-- refused, whether more wait, and the last position.
--
-- What is committed expects nothing. What is refused all the same (an id that is stored by now) stays with the reason, and is in
-- nobody's way; in the current transaction it is an error.
CREATE FUNCTION {schema}.record_staged(
    p_own boolean, p_all boolean, OUT recorded integer, OUT refusals integer, OUT more boolean, OUT "position" bigint
) LANGUAGE plpgsql AS $$
DECLARE
    one record;
    done jsonb;
    calls bigint[];
    rows bigint := 0;
    at bigint := 0;
    events bigint := 0;
BEGIN
    recorded := 0;
    refusals := 0;
    IF p_own THEN
        calls := ARRAY(SELECT DISTINCT s.batch FROM {schema}.staging s WHERE s.refused IS NULL AND s.transaction = pg_current_xact_id() ORDER BY 1);
    ELSE
        SELECT array_agg(DISTINCT s ORDER BY s), count(*) INTO calls, rows
        FROM {schema}.staged(CASE WHEN NOT p_all THEN {schema}.generation() END) s;
    END IF;
    LOOP
        IF rows < 1000 THEN
            at := calls[recorded + refusals + 1];
        ELSE
            -- These are not all, and not the first ones. Asked so that the primary key is what answers, in its order.
            at := (
                SELECT s.batch FROM {schema}.staging s
                WHERE s.batch > at AND coalesce(s.refused, '') = '' AND s.transaction <> pg_current_xact_id() ORDER BY s.batch LIMIT 1
            );
        END IF;
        more := at IS NOT NULL;
        EXIT WHEN NOT more OR NOT p_own AND (events >= 5000 OR recorded + refusals >= 100);
        SELECT max(s.stream) AS stream, max(s.expected) AS expected,
               array_agg(s.event_id ORDER BY s.place) AS ids, array_agg(s.type ORDER BY s.place) AS types,
               array_agg(s.version ORDER BY s.place) AS versions, array_agg(s.occurred_at ORDER BY s.place) AS times,
               array_agg(s.data ORDER BY s.place) AS data, array_agg(s.metadata ORDER BY s.place) AS metadata
        INTO one FROM {schema}.staging s WHERE s.batch = at;
        events := events + cardinality(one.ids);
        IF p_own THEN
            done := {schema}.append_one(one.stream, one.expected, one.ids, {schema}.type_ids_of(one.types), one.versions,
                one.times, one.data, one.metadata);
            IF NOT done ? 'revision' THEN
                PERFORM {schema}.refuse_append(one.stream, one.expected, done);
            END IF;
        ELSE
            BEGIN
                done := {schema}.append_one(one.stream, one.expected, one.ids, {schema}.type_ids_of(one.types), one.versions,
                    one.times, one.data, one.metadata);
            EXCEPTION WHEN data_exception OR integrity_constraint_violation OR program_limit_exceeded THEN
                done := jsonb_build_object('error', sqlerrm);
            END;
        END IF;
        IF done ? 'revision' THEN
            DELETE FROM {schema}.staging s WHERE s.batch = at;
            recorded := recorded + 1;
            position := greatest(position, (done ->> 'position')::bigint);
        ELSE
            UPDATE {schema}.staging s SET refused = done::text WHERE s.batch = at;
            refusals := refusals + 1;
        END IF;
    END LOOP;
END $$;

-- The numbers of types, one for each name, which may be repeated.
CREATE FUNCTION {schema}.type_ids_of(names text[]) RETURNS integer[]
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM {schema}.type_ids(ARRAY(SELECT DISTINCT n FROM unnest(names) AS n));
    RETURN ARRAY(
        SELECT t.id FROM unnest(names) WITH ORDINALITY AS n(name, ord)
        CROSS JOIN LATERAL (SELECT id FROM {schema}.types t WHERE t.name = n.name LIMIT 1) t
        ORDER BY n.ord
    );
END $$;

-- Fails as an append that is refused.
CREATE FUNCTION {schema}.refuse_append(p_stream text, p_expected bigint, p_done jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    wanted text := CASE p_expected WHEN -1 THEN 'no stream' WHEN -2 THEN 'a stream' ELSE format('revision %s of', p_expected) END;
BEGIN
    IF p_done ? 'duplicate' THEN
        RAISE EXCEPTION 'event % is stored already in %', p_done ->> 'duplicate', p_done ->> 'stream'
            USING ERRCODE = 'ORK02', DETAIL = jsonb_build_object('event_id', p_done ->> 'duplicate', 'stream', p_done ->> 'stream')::text;
    END IF;
    RAISE EXCEPTION 'expected % %, found %', wanted, p_stream, coalesce(p_done ->> 'conflict', 'no stream')
        USING ERRCODE = 'ORK01',
        DETAIL = jsonb_build_object('stream', p_stream,
            'expected', CASE p_expected WHEN -1 THEN '"no_stream"' WHEN -2 THEN '"stream_exists"' ELSE to_jsonb(p_expected) END,
            'actual', p_done -> 'conflict')::text;
END $$;

-- Appends what a process has gathered: `p_streams` without repetitions, with their numbers where `p_known` has them and 0 elsewhere; for each
-- append the place of its stream there, what it expects, the events before it of the same stream in this call, and its own; for each event
-- the place of its append, and its place in there.
--
-- `p_generation` is that of the tables where `p_known` and `p_types` were learned. If they have another one, nothing is appended: the caller
-- sees that by `generation`, forgets them and comes again.
--
-- If nothing stands against it, `base` is the first position, `heads` the last revisions of the streams before the call and `ids` their
-- numbers. Otherwise `results` says for each append what became of it, as append_one does. With `p_careful` each append is looked at for
-- itself, as after a violated constraint; with `p_atomic` none is done if one is refused.
--
-- What users' transactions have left is recorded before. `staged` says whether there is more of it, `refusals` how much was refused.
-- `last` is the last position that was given; `p_note` is told with it to all who listen.
CREATE FUNCTION {schema}.write_batch(
    p_generation bigint,
    p_streams text[], p_known bigint[], p_places integer[], p_expected bigint[], p_before integer[], p_counts integer[],
    p_appends integer[], p_offsets integer[],
    p_ids uuid[], p_types integer[], p_versions integer[], p_times timestamptz[], p_data jsonb[], p_metadata json[],
    p_careful boolean, p_atomic boolean, p_note text,
    OUT generation bigint, OUT base bigint, OUT heads bigint[], OUT ids bigint[], OUT results jsonb[],
    OUT staged boolean, OUT refusals integer, OUT last bigint
) LANGUAGE plpgsql AS $$
DECLARE
    sids bigint[];
    n integer := cardinality(p_ids);
    dirty boolean[];
    at integer := 1;
    one jsonb;
    upto integer;
    first integer := 1;
    through integer;
    recorded bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({lock});
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'expected isolation level read committed, found %', current_setting('transaction_isolation')
            USING ERRCODE = 'ORK06';
    END IF;
    staged := {schema}.any_staged(CASE WHEN NOT p_careful THEN {schema}.generation() END);
    IF staged THEN
        SELECT s.more, s.refusals, s.position INTO staged, refusals, last FROM {schema}.record_staged(false, p_careful) s;
        IF NOT staged THEN
            PERFORM {schema}.see_staged();
        END IF;
        IF p_note IS NOT NULL AND last IS NOT NULL THEN
            PERFORM pg_notify('{schema}', p_note || ' ' || last);
        END IF;
    END IF;
    IF cardinality(p_counts) = 0 THEN
        RETURN;
    END IF;

    -- From here on the tables are locked against being made anew.
    SELECT array_agg(coalesce(s.id, nullif(n.known, 0))), array_agg(coalesce(h.revision, -1)), {schema}.generation()
    INTO sids, heads, generation
    FROM unnest(p_streams, p_known) AS n(name, known)
    LEFT JOIN LATERAL (SELECT s.id FROM {schema}.streams s WHERE n.known = 0 AND s.name = n.name LIMIT 1) s ON true
    LEFT JOIN LATERAL (
        SELECT e.revision FROM {schema}.events e WHERE e.stream_id = coalesce(s.id, nullif(n.known, 0)) ORDER BY e.revision DESC LIMIT 1
    ) h ON true;
    IF generation IS DISTINCT FROM p_generation THEN
        heads := NULL;
        RETURN;
    END IF;

    IF p_careful THEN
        dirty := array_fill(true, ARRAY[cardinality(p_streams)]);
    ELSIF cardinality(p_counts) = 1 THEN
        dirty := CASE WHEN {schema}.holds(p_expected[1], heads[1]) OR p_counts[1] = 0 THEN NULL ELSE ARRAY[true] END;
    ELSIF EXISTS (
        SELECT FROM unnest(p_places, p_expected, p_before, p_counts) AS a(place, expected, before, count)
        WHERE count > 0 AND NOT {schema}.holds(expected, heads[place] + before)
    ) THEN
        SELECT array_agg(EXISTS (
            SELECT FROM unnest(p_places, p_expected, p_before, p_counts) AS a(place, expected, before, count)
            WHERE count > 0 AND place = s.place AND NOT {schema}.holds(expected, heads[place] + before)
        )) INTO dirty
        FROM generate_series(1, cardinality(p_streams)) AS s(place);
    END IF;

    IF dirty IS NULL THEN
        IF n = 0 THEN
            RETURN;
        END IF;
        IF array_position(sids, NULL) IS NOT NULL THEN
            sids := {schema}.stream_ids(p_streams);
        END IF;
        base := nextval('{schema}.positions');
        IF n > 1 THEN
            PERFORM setval('{schema}.positions', base + n - 1);
        END IF;
        INSERT INTO {schema}.events
            (position, stream_id, revision, event_id, occurred_at, type_id, version, data, metadata)
        SELECT base + e.ord - 1, sids[p_places[e.append]], heads[p_places[e.append]] + p_before[e.append] + e.place + 1,
               e.id, e.occurred_at, e.type_id, e.version, e.data, e.metadata
        FROM unnest(p_appends, p_offsets, p_ids, p_types, p_versions, p_times, p_data, p_metadata)
            WITH ORDINALITY AS e(append, place, id, type_id, version, occurred_at, data, metadata, ord);
        ids := sids;
        last := base + n - 1;
        IF p_note IS NOT NULL THEN
            PERFORM pg_notify('{schema}', p_note || ' ' || last);
        END IF;
        RETURN;
    END IF;

    -- In their order: those of streams that stand against something one by one, and what is between them at once.
    recorded := last;
    BEGIN
        WHILE at <= cardinality(p_counts) LOOP
            IF dirty[p_places[at]] OR p_counts[at] = 0 THEN
                through := first + p_counts[at] - 1;
                one := {schema}.append_one(p_streams[p_places[at]], p_expected[at], p_ids[first:through], p_types[first:through],
                    p_versions[first:through], p_times[first:through], p_data[first:through], p_metadata[first:through]);
                IF p_atomic AND NOT one ? 'revision' THEN
                    RAISE EXCEPTION 'refused' USING ERRCODE = 'ORK00';
                END IF;
                results := results || one;
                IF NOT one ? 'repeated' THEN
                    last := greatest(last, (one ->> 'position')::bigint);
                END IF;
                at := at + 1;
                first := through + 1;
                CONTINUE;
            END IF;
            upto := at;
            through := first + p_counts[at] - 1;
            WHILE upto < cardinality(p_counts) AND NOT dirty[p_places[upto + 1]] AND p_counts[upto + 1] > 0 LOOP
                upto := upto + 1;
                through := through + p_counts[upto];
            END LOOP;
            IF array_position(sids, NULL) IS NOT NULL THEN
                sids := {schema}.stream_ids(p_streams);
            END IF;
            base := {schema}.take_positions(through - first + 1);
            INSERT INTO {schema}.events
                (position, stream_id, revision, event_id, occurred_at, type_id, version, data, metadata)
            SELECT base + e.ord - 1, sids[p_places[e.append]], heads[p_places[e.append]] + p_before[e.append] + e.place + 1,
                   e.id, e.occurred_at, e.type_id, e.version, e.data, e.metadata
            FROM unnest(p_appends[first:through], p_offsets[first:through], p_ids[first:through], p_types[first:through],
                    p_versions[first:through], p_times[first:through], p_data[first:through], p_metadata[first:through])
                WITH ORDINALITY AS e(append, place, id, type_id, version, occurred_at, data, metadata, ord);
            SELECT results || array_agg(jsonb_build_object(
                'revision', heads[a.place] + a.before + a.count,
                'position', base - 1 + a.through
            ) ORDER BY a.ord) INTO results
            FROM (
                SELECT place, before, count, ord, sum(count) OVER (ORDER BY ord) AS through
                FROM unnest(p_places[at:upto], p_before[at:upto], p_counts[at:upto])
                    WITH ORDINALITY AS a(place, before, count, ord)
            ) a;
            last := base + through - first;
            at := upto + 1;
            first := through + 1;
        END LOOP;
        IF p_note IS NOT NULL AND last > coalesce(recorded, 0) THEN
            PERFORM pg_notify('{schema}', p_note || ' ' || last);
        END IF;
    EXCEPTION WHEN SQLSTATE 'ORK00' THEN
        last := recorded;
        results := array_fill('null'::jsonb, ARRAY[at - 1]) || one;
    END;
    base := NULL;
    heads := NULL;
END $$;

-- Appends one event alone, as fast as it goes: `p_known` is the number of its stream, 0 if it is not known. Returns its position, its
-- revision and the stream's number, or nothing if there is more to do than that (the expectation does not hold, users' transactions have
-- left something, the tables are of another generation): then nothing is done, and it is write_batch that has the answer. An id that is stored
-- violates its constraint. `p_horizon` and `p_unfinished` are of the table staging_seen, of this generation, or 0 and none.
CREATE FUNCTION {schema}.write_one(
    p_generation bigint, p_stream text, p_known bigint, p_expected bigint, p_id uuid, p_type integer, p_version integer, p_time timestamptz,
    p_data jsonb, p_metadata json, p_note text, p_horizon xid8, p_unfinished xid8[]
) RETURNS bigint[]
LANGUAGE plpgsql AS $$
DECLARE
    -- Assignments of plain expressions need no executor, unlike PERFORM; the lock comes first, so that what follows sees all before it.
    held text := pg_advisory_xact_lock({lock});
    sid bigint := p_known;
    last bigint;
    base bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RETURN NULL;
    END IF;
    IF sid = 0 THEN
        SELECT s.id INTO sid FROM {schema}.streams s WHERE s.name = p_stream;
    END IF;
    last := CASE
        WHEN EXISTS (SELECT FROM {schema}.staging s WHERE s.refused IS NULL AND s.transaction >= p_horizon) THEN NULL
        ELSE coalesce((SELECT e.revision FROM {schema}.events e WHERE e.stream_id = sid ORDER BY e.revision DESC LIMIT 1), -1)
    END;
    -- Now that the tables are locked against being made anew.
    IF p_generation <> {schema}.generation() THEN
        RETURN NULL;
    END IF;
    IF cardinality(p_unfinished) > 0 THEN
        IF EXISTS (SELECT FROM {schema}.staging s WHERE s.refused IS NULL AND s.transaction = ANY (p_unfinished)) THEN
            RETURN NULL;
        END IF;
    END IF;
    IF last IS NULL OR NOT (CASE p_expected WHEN -4 THEN true WHEN -1 THEN last = -1 WHEN -2 THEN last >= 0 ELSE last = p_expected END) THEN
        RETURN NULL;
    END IF;
    IF sid IS NULL THEN
        INSERT INTO {schema}.streams (name) VALUES (p_stream) RETURNING id INTO sid;
    END IF;
    base := nextval('{schema}.positions');
    INSERT INTO {schema}.events (position, stream_id, revision, event_id, occurred_at, type_id, version, data, metadata)
    VALUES (base, sid, last + 1, p_id, p_time, p_type, p_version, p_data, p_metadata);
    IF p_note IS NOT NULL THEN
        PERFORM pg_notify('{schema}', p_note || ' ' || base);
    END IF;
    RETURN ARRAY[base, last + 1, sid];
END $$;

-- Deletes a stream and records it; its snapshot goes too. Returns an object with `deleted`, or with `conflict`.
CREATE FUNCTION {schema}.delete_stream(p_stream text, p_expected bigint, p_mode text) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    sid bigint;
    last bigint;
BEGIN
    PERFORM pg_advisory_xact_lock({lock});
    SELECT id INTO sid FROM {schema}.streams WHERE name = p_stream;
    SELECT e.revision INTO last FROM {schema}.events e WHERE e.stream_id = sid ORDER BY e.revision DESC LIMIT 1;
    last := coalesce(last, -1);
    IF NOT {schema}.holds(p_expected, last) THEN
        RETURN jsonb_build_object('conflict', nullif(last, -1));
    END IF;
    IF last = -1 THEN
        RETURN jsonb_build_object('deleted', false);
    END IF;
    IF p_mode = 'soft' THEN
        UPDATE {schema}.streams SET deleted_through = last WHERE id = sid AND coalesce(deleted_through, -1) < last;
        IF NOT FOUND THEN
            RETURN jsonb_build_object('deleted', false);
        END IF;
    END IF;
    INSERT INTO {schema}.deletions (stream, mode, last_revision) VALUES (p_stream, p_mode, last);
    DELETE FROM {schema}.snapshots WHERE stream = p_stream;
    IF p_mode = 'hard' THEN
        -- Opens the trigger that refuses to delete events by hand.
        INSERT INTO {schema}.deleting (stream_id) VALUES (sid);
        DELETE FROM {schema}.events WHERE stream_id = sid;
        DELETE FROM {schema}.deleting WHERE stream_id = sid;
        UPDATE {schema}.streams SET deleted_through = NULL WHERE id = sid;
    END IF;
    RETURN jsonb_build_object('deleted', true);
END $$;

-- Fails as a call with an argument out of its range.
CREATE FUNCTION {schema}.refuse_argument(p_argument text, p_reason text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: %', p_argument, p_reason
        USING ERRCODE = 'ORK03', DETAIL = jsonb_build_object('argument', p_argument, 'reason', p_reason)::text;
END $$;

-- A version 7 UUID of now (RFC 9562 section 5.7): 48 bits of milliseconds, the version, and random bits.
CREATE FUNCTION {schema}.new_id() RETURNS uuid
LANGUAGE sql VOLATILE AS $$
    SELECT encode(
        set_byte(
            substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) || substring(uuid_send(gen_random_uuid()) FROM 7),
            6, (get_byte(uuid_send(gen_random_uuid()), 6) & 15) | 112
        ), 'hex')::uuid
$$;

-- Fails where the name of a stream is not one that every process takes.
CREATE FUNCTION {schema}.check_stream(p_stream text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    -- Spelled out, as classes of characters depend on the database's locale.
    IF p_stream IS NULL OR p_stream = '' OR left(p_stream, 1) = '$' OR length(p_stream) > 1000
        OR p_stream ~ '[\u0001-\u001f\u007f-\u009f]'
        OR p_stream ~ '^[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
        OR p_stream ~ '[ \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]$' THEN
        RAISE EXCEPTION 'stream name %: expected 1 to 1000 characters, none of control, no white space at either end, no $ in front',
            left(p_stream, 100)
            USING ERRCODE = 'ORK04', DETAIL = jsonb_build_object('stream', left(p_stream, 100))::text;
    END IF;
END $$;

-- What is wrong with an event that is to be appended, beginning with the place of it in there; null if nothing is. Whether a time is one
-- is only seen when it is read.
CREATE FUNCTION {schema}.fault(event jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN jsonb_typeof(event) <> 'object' THEN ': expected an object'
        WHEN EXISTS (SELECT FROM jsonb_object_keys(event) AS k WHERE k NOT IN ('id', 'type', 'version', 'data', 'metadata', 'occurred_at'))
            THEN ': expected id, type, version, data, metadata and occurred_at only'
        WHEN jsonb_typeof(event -> 'type') IS DISTINCT FROM 'string' OR length(event ->> 'type') > 255
            OR event ->> 'type' !~ '^[A-Za-z][A-Za-z0-9_]*([.][A-Za-z][A-Za-z0-9_]*)*$'
            THEN '.type: expected a type name: dotted segments of letters, digits and _, a letter in front of each'
        WHEN jsonb_typeof(event -> 'data') IS DISTINCT FROM 'object' THEN '.data: expected an object'
        WHEN jsonb_typeof(coalesce(event -> 'metadata', '{}')) <> 'object' THEN '.metadata: expected an object'
        WHEN coalesce(event ->> 'version', '1') !~ '^[1-9][0-9]{0,8}$' THEN '.version: expected a number from 1 on'
        WHEN event ->> 'id' !~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN '.id: expected a UUID'
        WHEN event ->> 'occurred_at' !~ '^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d([.]\d+)?([Zz]|[+-]\d\d:\d\d)$'
            THEN '.occurred_at: expected a time with its offset, 2026-11-22T09:30:00Z'
    END
$$;

-- For users: appends to a stream in the caller's own transaction. The events are recorded when it commits, and gone when it rolls back;
-- until then it holds nothing that others wait for. Returns the ids.
--
-- `events` is an array of 1 to 10,000 objects: `type`, `data` (an object), and as wanted `id`, `version` (1), `metadata` ({}),
-- `occurred_at` (now). `expected` is any, no_stream, stream_exists or a revision. With any, the events get their place soon after the
-- commit, by whichever process of the app is alive. Otherwise they get it in the commit, which fails (SQLSTATE ORK01) if the stream is
-- not as expected by then.
CREATE FUNCTION {schema}.append(stream text, events jsonb, expected text DEFAULT 'any') RETURNS uuid[]
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    wanted bigint;
    wrong record;
    call bigint := nextval('{schema}.batches');
    ids uuid[];
    taken record;
BEGIN
    PERFORM {schema}.check_stream(stream);
    wanted := CASE expected WHEN 'any' THEN -4 WHEN 'no_stream' THEN -1 WHEN 'stream_exists' THEN -2 END;
    IF wanted IS NULL THEN
        IF expected IS NULL OR expected !~ '^[0-9]{1,18}$' THEN
            PERFORM {schema}.refuse_argument('expected', format('expected any, no_stream, stream_exists or a revision, found %s', coalesce(expected, 'null')));
        END IF;
        wanted := expected::bigint;
    END IF;
    IF jsonb_typeof(events) IS DISTINCT FROM 'array' OR jsonb_array_length(events) NOT BETWEEN 1 AND 10000 THEN
        PERFORM {schema}.refuse_argument('events', 'expected an array of 1 to 10000 objects');
    END IF;
    SELECT e.place, {schema}.fault(e.event) AS fault INTO wrong
    FROM jsonb_array_elements(events) WITH ORDINALITY AS e(event, place) WHERE {schema}.fault(e.event) IS NOT NULL ORDER BY e.place LIMIT 1;
    IF FOUND THEN
        PERFORM {schema}.refuse_argument(format('events[%s]', wrong.place - 1) || split_part(wrong.fault, ': ', 1),
            substr(wrong.fault, strpos(wrong.fault, ': ') + 2));
    END IF;

    BEGIN
        WITH staged AS (
            INSERT INTO {schema}.staging (batch, place, stream, expected, event_id, type, version, occurred_at, data, metadata)
            SELECT call, e.place, $1, wanted, coalesce((e.event ->> 'id')::uuid, {schema}.new_id()), e.event ->> 'type',
                coalesce(e.event ->> 'version', '1')::integer, coalesce((e.event ->> 'occurred_at')::timestamptz, clock_timestamp()),
                e.event -> 'data', coalesce(e.event -> 'metadata', '{}')::json
            FROM jsonb_array_elements(events) WITH ORDINALITY AS e(event, place)
            RETURNING place, event_id
        )
        SELECT array_agg(s.event_id ORDER BY s.place) INTO ids FROM staged s;
    EXCEPTION WHEN data_exception THEN
        -- A day or an hour that there is not: whose it is, is looked for now.
        FOR wrong IN SELECT e.place, e.event FROM jsonb_array_elements(events) WITH ORDINALITY AS e(event, place) LOOP
            BEGIN
                PERFORM (wrong.event ->> 'occurred_at')::timestamptz;
            EXCEPTION WHEN data_exception THEN
                PERFORM {schema}.refuse_argument(format('events[%s].occurred_at', wrong.place - 1), sqlerrm);
            END;
        END LOOP;
        RAISE;
    END;
    SELECT i.id, max(i.place) AS place INTO wrong
    FROM unnest(ids) WITH ORDINALITY AS i(id, place) GROUP BY i.id HAVING count(*) > 1 ORDER BY 2 LIMIT 1;
    IF FOUND THEN
        PERFORM {schema}.refuse_argument(format('events[%s].id', wrong.place - 1), format('%s is there twice', wrong.id));
    END IF;

    -- What can be told now is told now: the rest by the commit, or by whoever records it.
    SELECT count(*) AS events, bool_and(s.name = $1) AS here,
        (array_agg(e.event_id ORDER BY i.place))[1] AS id, (array_agg(s.name ORDER BY i.place))[1] AS name INTO taken
    FROM unnest(ids) WITH ORDINALITY AS i(id, place)
    CROSS JOIN LATERAL (SELECT e.event_id, e.stream_id FROM {schema}.events e WHERE e.event_id = i.id LIMIT 1) e
    CROSS JOIN LATERAL (SELECT s.name FROM {schema}.streams s WHERE s.id = e.stream_id LIMIT 1) s;
    IF taken.events > 0 AND NOT (taken.here AND taken.events = cardinality(ids)) THEN
        PERFORM {schema}.refuse_append($1, wanted, jsonb_build_object('duplicate', taken.id, 'stream', taken.name));
    END IF;
    PERFORM pg_notify('{schema}', 'staged');
    RETURN ids;
END $$;

-- At the commit of a user's transaction: records what it appended with an expectation, and what it appended before that.
CREATE FUNCTION {schema}.record_at_commit() RETURNS trigger
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    done record;
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.staging s WHERE s.batch = new.batch) THEN
        RETURN NULL; -- with an earlier call of the transaction
    END IF;
    PERFORM pg_advisory_xact_lock({lock});
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- It sees the past only. Whoever deleted one of the streams since has changed its row, and this fails as a lost race.
        PERFORM FROM (SELECT DISTINCT g.stream FROM {schema}.staging g WHERE g.transaction = pg_current_xact_id()) g
        JOIN {schema}.streams s ON s.name = g.stream FOR SHARE OF s;
    ELSE
        -- What was committed before comes before.
        LOOP
            SELECT * INTO done FROM {schema}.record_staged(false, false);
            EXIT WHEN NOT done.more;
        END LOOP;
    END IF;
    SELECT * INTO done FROM {schema}.record_staged(true, false);
    PERFORM pg_notify('{schema}', 'events - ' || coalesce(done.position::text, ''));
    RETURN NULL;
EXCEPTION WHEN unique_violation OR exclusion_violation THEN
    -- In a transaction that sees the past only: others have appended since.
    RAISE EXCEPTION 'stream % was written to since this transaction began', new.stream USING ERRCODE = 'serialization_failure';
END $$;

CREATE CONSTRAINT TRIGGER record_at_commit AFTER INSERT ON {schema}.staging DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (new.expected <> -4 AND new.place = 1) EXECUTE FUNCTION {schema}.record_at_commit();
