PRAGMA application_id = 2003791474;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE definitions (
	ordinal INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	workspace_id TEXT NOT NULL,
	name TEXT NOT NULL,
	version TEXT NOT NULL,
	definition BLOB NOT NULL,
	bundle TEXT,
	created_us INTEGER NOT NULL,
	UNIQUE (workspace_id, name, version)
)
 STRICT

;
INSERT INTO "definitions" VALUES(1,'default','crawl','eba26c751fab2a2de14c7448f416f82791d5dbe2b1b3ff96bcfdc5ca58800436',X'7B226E616D65223A22637261776C222C226E6F646573223A5B5D7D',NULL,1700000000000000);
INSERT INTO "definitions" VALUES(2,'other','walk','ed956fe57a5228ccf3d5b06413240b1ea0a37ac995d33bf05bd2ceeacda5cc3f',X'7B226E616D65223A2277616C6B222C226E6F646573223A5B5D7D',NULL,1700000000000000);
CREATE TABLE runs (
	ordinal INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	run_id TEXT NOT NULL,
	workspace_id TEXT NOT NULL,
	project_id TEXT NOT NULL,
	"key" TEXT,
	workflow_name TEXT NOT NULL,
	workflow_version TEXT NOT NULL,
	root_run_id TEXT NOT NULL,
	parent_run_id TEXT,
	parent_token_id TEXT,
	depth INTEGER DEFAULT '0' NOT NULL,
	fork BLOB,
	input BLOB NOT NULL,
	trace INTEGER NOT NULL,
	labels TEXT NOT NULL,
	created_us INTEGER NOT NULL,
	epoch INTEGER NOT NULL,
	placement TEXT,
	reported_epoch INTEGER,
	status TEXT NOT NULL,
	started_us INTEGER,
	ended_us INTEGER,
	output BLOB,
	error BLOB,
	tokens INTEGER,
	events INTEGER,
	duration_ms REAL,
	UNIQUE (run_id),
	UNIQUE (workspace_id, "key"),
	FOREIGN KEY(workspace_id, workflow_name, workflow_version) REFERENCES definitions (workspace_id, name, version),
	CHECK (epoch >= 0)
)
 STRICT

;
INSERT INTO "runs" VALUES(1,'run_000000000001_0000000000000001','default','default','k1','crawl','eba26c751fab2a2de14c7448f416f82791d5dbe2b1b3ff96bcfdc5ca58800436','run_000000000001_0000000000000001',NULL,NULL,0,NULL,X'7B2273697465223A2261227D',1,'{"team":"x","it''s":"quoted"}',1700000000000000,5,'{"kind":"dedicated","node":"n1","host":"h","pid":7}',5,'completed',1000000,2500000,X'7B227061676573223A337D',NULL,12,40,1500.0);
INSERT INTO "runs" VALUES(2,'run_000000000002_0000000000000002','default','default',NULL,'crawl','eba26c751fab2a2de14c7448f416f82791d5dbe2b1b3ff96bcfdc5ca58800436','run_000000000001_0000000000000001','run_000000000001_0000000000000001','t_1',1,NULL,X'6E756C6C',0,'{}',1700000000000000,0,NULL,NULL,'queued',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(3,'run_000000000003_0000000000000003','other','p','k1','walk','ed956fe57a5228ccf3d5b06413240b1ea0a37ac995d33bf05bd2ceeacda5cc3f','run_000000000003_0000000000000003',NULL,NULL,0,X'7B2272756E5F6964223A2272222C2273657175656E6365223A332C226368616E676573223A7B7D7D',X'6E756C6C',0,'{}',1700000000000000,0,NULL,NULL,'queued',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "runs" VALUES(4,'run_000000000004_0000000000000004','default','default','k4','crawl','eba26c751fab2a2de14c7448f416f82791d5dbe2b1b3ff96bcfdc5ca58800436','run_000000000004_0000000000000004',NULL,NULL,0,NULL,X'6E756C6C',0,'{}',1700000000000000,0,NULL,NULL,'queued',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE service_epochs (
	name TEXT NOT NULL,
	epoch INTEGER NOT NULL,
	PRIMARY KEY (name)
)
 STRICT

;
INSERT INTO "service_epochs" VALUES('events',2);
CREATE INDEX runs_by_status ON runs (status, ordinal);
CREATE INDEX runs_by_workspace ON runs (workspace_id, ordinal);
CREATE INDEX runs_by_workflow ON runs (workspace_id, workflow_name, ordinal);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('definitions',2);
INSERT INTO "sqlite_sequence" VALUES('runs',4);
COMMIT;
