-- A telemetry store of version 1, as the release before epochs and roll-ups wrote it.
CREATE TABLE device (
  fleet TEXT NOT NULL, 
  device TEXT NOT NULL, 
  PRIMARY KEY (fleet, device)
);
INSERT INTO device VALUES ('city', 'a');
INSERT INTO device VALUES ('city', 'b');
INSERT INTO device VALUES ('sea', 'x');
CREATE TABLE device_state (
  fleet TEXT NOT NULL, 
  device TEXT NOT NULL, 
  kind TEXT NOT NULL, 
  session BIGINT NOT NULL, 
  received_s DOUBLE PRECISION NOT NULL, 
  payload TEXT NOT NULL, 
  PRIMARY KEY (fleet, device, kind)
);
INSERT INTO device_state VALUES ('city', 'a', 'birth', 2, 1700000000.0, '{"device":"a","session":2,"next_sequence":31,"unix_s":1700000000.0,"protocol":1,"groups":["north"]}');
INSERT INTO device_state VALUES ('city', 'a', 'death', 1, 1700001200.0, '{"device":"a","session":1,"reason":"lost"}');
INSERT INTO device_state VALUES ('city', 'a', 'reported', 2, 1700001300.0, '{"device":"a","session":2,"version":4,"settings":{"fraction":"0.5"}}');
CREATE TABLE event (
  fleet TEXT NOT NULL, 
  device TEXT NOT NULL, 
  kind TEXT NOT NULL, 
  digest TEXT NOT NULL, 
  received_s DOUBLE PRECISION NOT NULL, 
  payload TEXT NOT NULL, 
  PRIMARY KEY (fleet, device, kind, digest)
);
CREATE INDEX event_received ON event (fleet, received_s);
INSERT INTO event VALUES ('city', 'a', 'death', '74512bca39e9e2cff716fe8ad945d3d4', 1700001200.0, '{"device":"a","session":1,"reason":"lost"}');
INSERT INTO event VALUES ('city', 'a', 'reported', 'd556ebbc053429e08fde65d0cdca6c3a', 1700001300.0, '{"device":"a","session":2,"version":4,"settings":{"fraction":"0.5"}}');
INSERT INTO event VALUES ('city', 'a', 'result', '48a69638eed80eb5f472ad3d13cbb8f8', 1700001500.0, '{"device":"a","id":"7","ok":true}');
CREATE TABLE expired (
  fleet TEXT NOT NULL, 
  device TEXT NOT NULL, 
  first BIGINT NOT NULL, 
  last BIGINT NOT NULL, 
  PRIMARY KEY (fleet, device, first)
);
INSERT INTO expired VALUES ('city', 'a', 1, 7);
INSERT INTO expired VALUES ('city', 'a', 9, 9);
INSERT INTO expired VALUES ('city', 'b', 3, 3);
INSERT INTO expired VALUES ('sea', 'x', 1, 1);
CREATE TABLE taper_schema (
  version INTEGER NOT NULL
);
INSERT INTO taper_schema VALUES (1);
CREATE TABLE telemetry (
  fleet TEXT NOT NULL, 
  device TEXT NOT NULL, 
  session BIGINT NOT NULL, 
  sequence BIGINT NOT NULL, 
  unix_s DOUBLE PRECISION NOT NULL, 
  period_s DOUBLE PRECISION NOT NULL, 
  battery DOUBLE PRECISION NOT NULL, 
  plugged BOOLEAN NOT NULL, 
  fraction DOUBLE PRECISION NOT NULL, 
  cloud_fraction DOUBLE PRECISION NOT NULL, 
  answered_device BIGINT NOT NULL, 
  answered_cloud BIGINT NOT NULL, 
  failed BIGINT NOT NULL, 
  labelled BIGINT NOT NULL, 
  "right" BIGINT NOT NULL, 
  payload_bytes BIGINT NOT NULL, 
  energy_j DOUBLE PRECISION NOT NULL, 
  latency_ms DOUBLE PRECISION NOT NULL, 
  latency_max_ms DOUBLE PRECISION NOT NULL, 
  reported_version BIGINT NOT NULL, 
  model TEXT NOT NULL, 
  model_version TEXT NOT NULL, 
  dropped BIGINT NOT NULL, 
  error TEXT NOT NULL, 
  received_s DOUBLE PRECISION NOT NULL, 
  PRIMARY KEY (fleet, device, sequence)
);
CREATE INDEX telemetry_received ON telemetry (fleet, received_s);
INSERT INTO telemetry VALUES ('city', 'a', 1, 12, 1700000720.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700000720.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 13, 1700000780.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700000780.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 14, 1700000840.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700000840.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 15, 1700000900.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700000900.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 16, 1700000960.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700000960.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 17, 1700001020.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001020.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 18, 1700001080.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001080.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 19, 1700001140.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001140.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 20, 1700001200.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001200.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 21, 1700001260.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001260.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 22, 1700001320.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001320.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 23, 1700001380.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001380.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 24, 1700001440.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001440.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 25, 1700001500.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001500.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 26, 1700001560.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001560.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 27, 1700001620.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001620.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 28, 1700001680.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001680.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 29, 1700001740.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001740.0);
INSERT INTO telemetry VALUES ('city', 'a', 1, 30, 1700001800.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001800.0);
INSERT INTO telemetry VALUES ('city', 'b', 1, 25, 1700001500.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001500.0);
INSERT INTO telemetry VALUES ('sea', 'x', 1, 30, 1700001800.0, 60.0, 0.5, false, 0.25, 1.0, 2, 6, 1, 8, 6, 300, 0.5, 4.0, 20.0, 1, 'digits', 'abc', 0, '', 1700001800.0);
