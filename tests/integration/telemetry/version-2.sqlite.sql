-- A telemetry store of version 2, as the release before audits and roll-outs wrote it.
BEGIN TRANSACTION;
CREATE TABLE device (
	fleet TEXT NOT NULL, 
	device TEXT NOT NULL, 
	epoch TEXT NOT NULL, 
	PRIMARY KEY (fleet, device)
)
 WITHOUT ROWID

;
INSERT INTO "device" VALUES('city','a','');
INSERT INTO "device" VALUES('city','b','');
CREATE TABLE device_state (
	fleet TEXT NOT NULL, 
	device TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	epoch TEXT NOT NULL, 
	session BIGINT NOT NULL, 
	received_s DOUBLE NOT NULL, 
	payload TEXT NOT NULL, 
	PRIMARY KEY (fleet, device, kind)
)
 WITHOUT ROWID

;
INSERT INTO "device_state" VALUES('city','a','birth','',1,1700000000.0,'{"device":"a","session":1,"next_sequence":1,"unix_s":1700000000.0,"protocol":1,"groups":["north"]}');
INSERT INTO "device_state" VALUES('city','a','reported','',1,1700000001.0,'{"device":"a","session":1,"version":1,"settings":{"fraction":"0.5"}}');
CREATE TABLE event (
	fleet TEXT NOT NULL, 
	device TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	received_s DOUBLE NOT NULL, 
	payload TEXT NOT NULL, 
	PRIMARY KEY (fleet, device, kind, digest)
)
 WITHOUT ROWID

;
INSERT INTO "event" VALUES('city','a','birth','28af1af0ddf7868ce2aca5e85534c569',1700000000.0,'{"device":"a","session":1,"next_sequence":1,"unix_s":1700000000.0,"protocol":1,"groups":["north"]}');
INSERT INTO "event" VALUES('city','a','reported','d9dcf522448b9e9e393a69afdb8064a2',1700000001.0,'{"device":"a","session":1,"version":1,"settings":{"fraction":"0.5"}}');
CREATE TABLE received (
	fleet TEXT NOT NULL, 
	device TEXT NOT NULL, 
	epoch TEXT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	PRIMARY KEY (fleet, device, epoch, first)
)
 WITHOUT ROWID

;
INSERT INTO "received" VALUES('city','a','',12,30);
INSERT INTO "received" VALUES('city','b','',3,3);
INSERT INTO "received" VALUES('city','b','',25,25);
CREATE TABLE rollup (
	fleet TEXT NOT NULL, 
	width_s BIGINT NOT NULL, 
	device TEXT NOT NULL, 
	start_s BIGINT NOT NULL, 
	messages BIGINT NOT NULL, 
	answered_device BIGINT NOT NULL, 
	answered_cloud BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	labelled BIGINT NOT NULL, 
	"right" BIGINT NOT NULL, 
	payload_bytes BIGINT NOT NULL, 
	energy_j DOUBLE NOT NULL, 
	period_s DOUBLE NOT NULL, 
	dropped BIGINT NOT NULL, 
	waited_ms DOUBLE NOT NULL, 
	latency_max_ms DOUBLE NOT NULL, 
	battery DOUBLE NOT NULL, 
	battery_low DOUBLE NOT NULL, 
	fraction DOUBLE NOT NULL, 
	cloud_fraction DOUBLE NOT NULL, 
	PRIMARY KEY (fleet, width_s, device, start_s)
)
 WITHOUT ROWID

;
INSERT INTO "rollup" VALUES('city',60,'',1700000160,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700000700,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700000760,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700000820,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700000880,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700000940,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001000,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001060,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001120,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001180,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001240,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001300,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001360,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001420,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001480,2,4,12,2,16,12,600,1.0,120.0,0,64.0,20.0,1.0,0.5,0.5,12.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001540,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001600,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001660,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001720,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',60,'',1700001780,1,2,6,1,8,6,300,0.5,60.0,0,32.0,20.0,0.5,0.5,0.25,6.0);
INSERT INTO "rollup" VALUES('city',3600,'',1699999200,21,42,126,21,168,126,6300,10.5,1260.0,0,672.0,20.0,10.5,0.5,5.25,126.0);
INSERT INTO "rollup" VALUES('city',86400,'',1699920000,21,42,126,21,168,126,6300,10.5,1260.0,0,672.0,20.0,10.5,0.5,5.25,126.0);
INSERT INTO "rollup" VALUES('city',86400,'a',1699920000,19,38,114,19,152,114,5700,9.5,1140.0,0,608.0,20.0,9.5,0.5,4.75,114.0);
INSERT INTO "rollup" VALUES('city',86400,'b',1699920000,2,4,12,2,16,12,600,1.0,120.0,0,64.0,20.0,1.0,0.5,0.5,12.0);
INSERT INTO "rollup" VALUES('city',2592000,'a',1697760000,19,38,114,19,152,114,5700,9.5,1140.0,0,608.0,20.0,9.5,0.5,4.75,114.0);
INSERT INTO "rollup" VALUES('city',2592000,'b',1697760000,2,4,12,2,16,12,600,1.0,120.0,0,64.0,20.0,1.0,0.5,0.5,12.0);
CREATE TABLE taper_schema (
	version INTEGER NOT NULL
);
INSERT INTO "taper_schema" VALUES(2);
CREATE TABLE telemetry (
	fleet TEXT NOT NULL, 
	device TEXT NOT NULL, 
	session BIGINT NOT NULL, 
	sequence BIGINT NOT NULL, 
	unix_s DOUBLE NOT NULL, 
	period_s DOUBLE NOT NULL, 
	battery DOUBLE NOT NULL, 
	plugged BOOLEAN NOT NULL, 
	fraction DOUBLE NOT NULL, 
	cloud_fraction DOUBLE NOT NULL, 
	answered_device BIGINT NOT NULL, 
	answered_cloud BIGINT NOT NULL, 
	failed BIGINT NOT NULL, 
	labelled BIGINT NOT NULL, 
	"right" BIGINT NOT NULL, 
	payload_bytes BIGINT NOT NULL, 
	energy_j DOUBLE NOT NULL, 
	latency_ms DOUBLE NOT NULL, 
	latency_max_ms DOUBLE NOT NULL, 
	reported_version BIGINT NOT NULL, 
	model TEXT NOT NULL, 
	model_version TEXT NOT NULL, 
	dropped BIGINT NOT NULL, 
	error TEXT NOT NULL, 
	epoch TEXT NOT NULL, 
	received_s DOUBLE NOT NULL, 
	PRIMARY KEY (fleet, device, epoch, sequence)
)
 WITHOUT ROWID

;
INSERT INTO "telemetry" VALUES('city','a',1,12,1700000720.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700000720.0);
INSERT INTO "telemetry" VALUES('city','a',1,13,1700000780.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700000780.0);
INSERT INTO "telemetry" VALUES('city','a',1,14,1700000840.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700000840.0);
INSERT INTO "telemetry" VALUES('city','a',1,15,1700000900.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700000900.0);
INSERT INTO "telemetry" VALUES('city','a',1,16,1700000960.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700000960.0);
INSERT INTO "telemetry" VALUES('city','a',1,17,1700001020.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001020.0);
INSERT INTO "telemetry" VALUES('city','a',1,18,1700001080.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001080.0);
INSERT INTO "telemetry" VALUES('city','a',1,19,1700001140.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001140.0);
INSERT INTO "telemetry" VALUES('city','a',1,20,1700001200.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001200.0);
INSERT INTO "telemetry" VALUES('city','a',1,21,1700001260.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001260.0);
INSERT INTO "telemetry" VALUES('city','a',1,22,1700001320.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001320.0);
INSERT INTO "telemetry" VALUES('city','a',1,23,1700001380.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001380.0);
INSERT INTO "telemetry" VALUES('city','a',1,24,1700001440.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001440.0);
INSERT INTO "telemetry" VALUES('city','a',1,25,1700001500.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001500.0);
INSERT INTO "telemetry" VALUES('city','a',1,26,1700001560.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001560.0);
INSERT INTO "telemetry" VALUES('city','a',1,27,1700001620.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001620.0);
INSERT INTO "telemetry" VALUES('city','a',1,28,1700001680.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001680.0);
INSERT INTO "telemetry" VALUES('city','a',1,29,1700001740.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001740.0);
INSERT INTO "telemetry" VALUES('city','a',1,30,1700001800.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001800.0);
INSERT INTO "telemetry" VALUES('city','b',1,3,1700000180.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700000180.0);
INSERT INTO "telemetry" VALUES('city','b',1,25,1700001500.0,60.0,0.5,0,0.25,1.0,2,6,1,8,6,300,0.5,4.0,20.0,0,'digits','',0,'','',1700001500.0);
CREATE INDEX telemetry_received ON telemetry (fleet, received_s);
CREATE INDEX event_received ON event (fleet, received_s);
COMMIT;
