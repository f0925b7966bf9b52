-- A telemetry store of version 2, as the release before audits and roll-outs wrote it.
CREATE TABLE public.device (
    fleet text NOT NULL,
    device text NOT NULL,
    epoch text NOT NULL
);
CREATE TABLE public.device_state (
    fleet text NOT NULL,
    device text NOT NULL,
    kind text NOT NULL,
    epoch text NOT NULL,
    session bigint NOT NULL,
    received_s double precision NOT NULL,
    payload text NOT NULL
);
CREATE TABLE public.event (
    fleet text NOT NULL,
    device text NOT NULL,
    kind text NOT NULL,
    digest text NOT NULL,
    received_s double precision NOT NULL,
    payload text NOT NULL
);
CREATE TABLE public.received (
    fleet text NOT NULL,
    device text NOT NULL,
    epoch text NOT NULL,
    first bigint NOT NULL,
    last bigint NOT NULL
);
CREATE TABLE public.rollup (
    fleet text NOT NULL,
    width_s bigint NOT NULL,
    device text NOT NULL,
    start_s bigint NOT NULL,
    messages bigint NOT NULL,
    answered_device bigint NOT NULL,
    answered_cloud bigint NOT NULL,
    failed bigint NOT NULL,
    labelled bigint NOT NULL,
    "right" bigint NOT NULL,
    payload_bytes bigint NOT NULL,
    energy_j double precision NOT NULL,
    period_s double precision NOT NULL,
    dropped bigint NOT NULL,
    waited_ms double precision NOT NULL,
    latency_max_ms double precision NOT NULL,
    battery double precision NOT NULL,
    battery_low double precision NOT NULL,
    fraction double precision NOT NULL,
    cloud_fraction double precision NOT NULL
);
CREATE TABLE public.taper_schema (
    version integer NOT NULL
);
CREATE TABLE public.telemetry (
    fleet text NOT NULL,
    device text NOT NULL,
    session bigint NOT NULL,
    sequence bigint NOT NULL,
    unix_s double precision NOT NULL,
    period_s double precision NOT NULL,
    battery double precision NOT NULL,
    plugged boolean NOT NULL,
    fraction double precision NOT NULL,
    cloud_fraction double precision NOT NULL,
    answered_device bigint NOT NULL,
    answered_cloud bigint NOT NULL,
    failed bigint NOT NULL,
    labelled bigint NOT NULL,
    "right" bigint NOT NULL,
    payload_bytes bigint NOT NULL,
    energy_j double precision NOT NULL,
    latency_ms double precision NOT NULL,
    latency_max_ms double precision NOT NULL,
    reported_version bigint NOT NULL,
    model text NOT NULL,
    model_version text NOT NULL,
    dropped bigint NOT NULL,
    error text NOT NULL,
    epoch text NOT NULL,
    received_s double precision NOT NULL
);
INSERT INTO public.device VALUES ('city', 'a', '');
INSERT INTO public.device VALUES ('city', 'b', '');
INSERT INTO public.device_state VALUES ('city', 'a', 'birth', '', 1, 1700000000, '{"device":"a","session":1,"next_sequence":1,"unix_s":1700000000.0,"protocol":1,"groups":["north"]}');
INSERT INTO public.device_state VALUES ('city', 'a', 'reported', '', 1, 1700000001, '{"device":"a","session":1,"version":1,"settings":{"fraction":"0.5"}}');
INSERT INTO public.event VALUES ('city', 'a', 'birth', '28af1af0ddf7868ce2aca5e85534c569', 1700000000, '{"device":"a","session":1,"next_sequence":1,"unix_s":1700000000.0,"protocol":1,"groups":["north"]}');
INSERT INTO public.event VALUES ('city', 'a', 'reported', 'd9dcf522448b9e9e393a69afdb8064a2', 1700000001, '{"device":"a","session":1,"version":1,"settings":{"fraction":"0.5"}}');
INSERT INTO public.received VALUES ('city', 'a', '', 12, 30);
INSERT INTO public.received VALUES ('city', 'b', '', 3, 3);
INSERT INTO public.received VALUES ('city', 'b', '', 25, 25);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700000160, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700000700, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700000760, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700000820, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700000880, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700000940, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001000, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001060, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001120, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001180, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001240, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001300, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001360, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001420, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001480, 2, 4, 12, 2, 16, 12, 600, 1, 120, 0, 64, 20, 1, 0.5, 0.5, 12);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001540, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001600, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001660, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001720, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 60, '', 1700001780, 1, 2, 6, 1, 8, 6, 300, 0.5, 60, 0, 32, 20, 0.5, 0.5, 0.25, 6);
INSERT INTO public.rollup VALUES ('city', 3600, '', 1699999200, 21, 42, 126, 21, 168, 126, 6300, 10.5, 1260, 0, 672, 20, 10.5, 0.5, 5.25, 126);
INSERT INTO public.rollup VALUES ('city', 86400, '', 1699920000, 21, 42, 126, 21, 168, 126, 6300, 10.5, 1260, 0, 672, 20, 10.5, 0.5, 5.25, 126);
INSERT INTO public.rollup VALUES ('city', 86400, 'a', 1699920000, 19, 38, 114, 19, 152, 114, 5700, 9.5, 1140, 0, 608, 20, 9.5, 0.5, 4.75, 114);
INSERT INTO public.rollup VALUES ('city', 86400, 'b', 1699920000, 2, 4, 12, 2, 16, 12, 600, 1, 120, 0, 64, 20, 1, 0.5, 0.5, 12);
INSERT INTO public.rollup VALUES ('city', 2592000, 'a', 1697760000, 19, 38, 114, 19, 152, 114, 5700, 9.5, 1140, 0, 608, 20, 9.5, 0.5, 4.75, 114);
INSERT INTO public.rollup VALUES ('city', 2592000, 'b', 1697760000, 2, 4, 12, 2, 16, 12, 600, 1, 120, 0, 64, 20, 1, 0.5, 0.5, 12);
INSERT INTO public.taper_schema VALUES (2);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 12, 1700000720, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700000720);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 13, 1700000780, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700000780);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 14, 1700000840, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700000840);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 15, 1700000900, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700000900);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 16, 1700000960, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700000960);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 17, 1700001020, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001020);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 18, 1700001080, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001080);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 19, 1700001140, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001140);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 20, 1700001200, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001200);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 21, 1700001260, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001260);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 22, 1700001320, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001320);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 23, 1700001380, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001380);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 24, 1700001440, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001440);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 25, 1700001500, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001500);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 26, 1700001560, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001560);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 27, 1700001620, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001620);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 28, 1700001680, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001680);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 29, 1700001740, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001740);
INSERT INTO public.telemetry VALUES ('city', 'a', 1, 30, 1700001800, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001800);
INSERT INTO public.telemetry VALUES ('city', 'b', 1, 3, 1700000180, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700000180);
INSERT INTO public.telemetry VALUES ('city', 'b', 1, 25, 1700001500, 60, 0.5, false, 0.25, 1, 2, 6, 1, 8, 6, 300, 0.5, 4, 20, 0, 'digits', '', 0, '', '', 1700001500);
ALTER TABLE ONLY public.device
    ADD CONSTRAINT device_pkey PRIMARY KEY (fleet, device);
ALTER TABLE ONLY public.device_state
    ADD CONSTRAINT device_state_pkey PRIMARY KEY (fleet, device, kind);
ALTER TABLE ONLY public.event
    ADD CONSTRAINT event_pkey PRIMARY KEY (fleet, device, kind, digest);
ALTER TABLE ONLY public.received
    ADD CONSTRAINT received_pkey PRIMARY KEY (fleet, device, epoch, first);
ALTER TABLE ONLY public.rollup
    ADD CONSTRAINT rollup_pkey PRIMARY KEY (fleet, width_s, device, start_s);
ALTER TABLE ONLY public.telemetry
    ADD CONSTRAINT telemetry_pkey PRIMARY KEY (fleet, device, epoch, sequence);
CREATE INDEX event_received ON public.event USING btree (fleet, received_s);
CREATE INDEX telemetry_received ON public.telemetry USING btree (fleet, received_s);
