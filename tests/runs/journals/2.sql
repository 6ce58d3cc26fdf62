BEGIN TRANSACTION;
CREATE TABLE choices (
    name TEXT PRIMARY KEY,          -- 'found' or a baseline's name
    genome TEXT NOT NULL,
    tokens INTEGER NOT NULL,        -- spent by the search that made the choice
    evaluations INTEGER NOT NULL,
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
);
INSERT INTO "choices" VALUES('found','[0, 1, 0, 0, 0]',640,3,1.5,'5fd28402f4536c9b');
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,             -- 'calibration' or the name of a held-out text
    provenance TEXT NOT NULL,       -- digest of model, text, pruner, scores, device and versions; see facts
    key TEXT NOT NULL,              -- of the subnet
    genome TEXT NOT NULL,           -- JSON list of levels
    first INTEGER NOT NULL,         -- first sequence scored
    stop INTEGER NOT NULL,          -- one past the last
    losses TEXT NOT NULL,           -- JSON {score: [per sequence]}
    costs TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    tokens INTEGER NOT NULL,
    layer_passes INTEGER NOT NULL,
    seconds REAL NOT NULL,
    checksum TEXT NOT NULL
);
INSERT INTO "evaluations" VALUES(1,'calibration','0123456789abcdef','c5d1985f2cbe4550','[0, 0, 0, 0, 0]',0,2,'{"kl": [-0.0007316582238715437, 0.08619278075079735]}','{"parameters": 34016, "block_parameters": 27840, "nonzero_parameters": 34016, "linear_weights": 27648, "macs": 620544, "weight_bytes": 136064, "kv_bytes": 1179648, "sublayers": 6}','ok','',32,6,0.5,'0c3fee0796f85a98');
INSERT INTO "evaluations" VALUES(2,'calibration','0123456789abcdef','e33df6bce0825302','[0, 1, 0, 0, 0]',0,2,'{"kl": [0.7466566821250966, 0.3829571815206697]}','{"parameters": 29376, "block_parameters": 23200, "nonzero_parameters": 29376, "linear_weights": 23040, "macs": 419328, "weight_bytes": 117504, "kv_bytes": 786432, "sublayers": 5}','ok','',32,6,0.5,'8fa14ab709ecd59f');
INSERT INTO "evaluations" VALUES(3,'calibration','0123456789abcdef','853bb45b93278e61','[1, 1, 1, 1, 1]',0,2,'{}','{"parameters": 10816, "block_parameters": 4640, "nonzero_parameters": 10816, "linear_weights": 4608, "macs": 204288, "weight_bytes": 43264, "kv_bytes": 393216, "sublayers": 1}','failed','broken on purpose',32,6,0.5,'cceb6e056445fccb');
INSERT INTO "evaluations" VALUES(4,'calibration','0123456789abcdef','c5d1985f2cbe4550','[0, 0, 0, 0, 0]',2,4,'{"kl": [-0.1748132180464051, -0.07735125404044281]}','{"parameters": 34016, "block_parameters": 27840, "nonzero_parameters": 34016, "linear_weights": 27648, "macs": 620544, "weight_bytes": 136064, "kv_bytes": 1179648, "sublayers": 6}','ok','',32,6,0.5,'887354f59ca92ddb');
INSERT INTO "evaluations" VALUES(5,'calibration','0123456789abcdef','e33df6bce0825302','[0, 1, 0, 0, 0]',2,4,'{"kl": [0.16062630957249185, 0.37051525384596895]}','{"parameters": 29376, "block_parameters": 23200, "nonzero_parameters": 29376, "linear_weights": 23040, "macs": 419328, "weight_bytes": 117504, "kv_bytes": 786432, "sublayers": 5}','ok','',32,6,0.5,'5e546caca5fbf744');
INSERT INTO "evaluations" VALUES(6,'calibration, trained on 32 + 64 tokens','0123456789abcdef','e33df6bce0825302','[0, 1, 0, 0, 0]',0,2,'{"kl": [0.7466566821250966, 0.3829571815206697]}','{"parameters": 29376, "block_parameters": 23200, "nonzero_parameters": 29376, "linear_weights": 23040, "macs": 419328, "weight_bytes": 117504, "kv_bytes": 786432, "sublayers": 5}','ok','',32,6,0.5,'0cb496266ddd6209');
INSERT INTO "evaluations" VALUES(7,'held','0123456789abcdef','c5d1985f2cbe4550','[0, 0, 0, 0, 0]',0,2,'{"kl": [-0.0007316582238715437, 0.08619278075079735], "cross_entropy": [0.9992683417761284, 1.0861927807507974]}','{"parameters": 34016, "block_parameters": 27840, "nonzero_parameters": 34016, "linear_weights": 27648, "macs": 620544, "weight_bytes": 136064, "kv_bytes": 1179648, "sublayers": 6}','ok','',32,6,0.5,'124e58a3ac169cbc');
INSERT INTO "evaluations" VALUES(8,'held','0123456789abcdef','e33df6bce0825302','[0, 1, 0, 0, 0]',0,2,'{"kl": [0.7466566821250966, 0.3829571815206697], "cross_entropy": [1.7466566821250966, 1.3829571815206698]}','{"parameters": 29376, "block_parameters": 23200, "nonzero_parameters": 29376, "linear_weights": 23040, "macs": 419328, "weight_bytes": 117504, "kv_bytes": 786432, "sublayers": 5}','ok','',32,6,0.5,'1391744dbf4d0f30');
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum TEXT NOT NULL);
INSERT INTO "facts" VALUES('schema_version','2','d960bd89824e0b9f');
INSERT INTO "facts" VALUES('slopes calibration e33df6bce0825302 0-2','{"genome": [0, 1, 0, 0, 0], "key": "e33df6bce0825302", "sequences": [0, 2], "first": [[0.0, 0.125], [0.0, null], [0.0, 0.125], [0.0, 0.125], [0.0, 0.125]], "second": [[0.0, 0.125], [0.0, null], [0.0, 0.125], [0.0, 0.125], [0.0, 0.125]], "reason": "", "tokens": 128, "seconds": 0.25}','2053a91a99841a75');
INSERT INTO "facts" VALUES('slopes calibration c5d1985f2cbe4550 2-4','{"genome": [0, 0, 0, 0, 0], "key": "c5d1985f2cbe4550", "sequences": [2, 4], "first": [], "second": [], "reason": "slopes are not finite", "tokens": 128, "seconds": 0.25}','5a314363f2f6e0cd');
INSERT INTO "facts" VALUES('task e33df6bce0825302 1111111111111111','{"task": "guess", "stages": [32, 64], "limit": 6, "fewshot": 2, "seed": 0, "documents": 6, "metrics": {"acc": [0.5, 0.25], "f1": [0.25, null]}, "lm_eval": "0.4.12"}','694eed2977be8aeb');
INSERT INTO "facts" VALUES('task c5d1985f2cbe4550 2222222222222222','{"task": "guess", "stages": [], "limit": null, "fewshot": 0, "seed": 0, "documents": 6, "metrics": {"acc": [0.5, 0.25], "f1": [0.25, null]}, "lm_eval": "0.4.12", "definitions": "fedcba9876543210"}','c97b0971731fc3d4');
INSERT INTO "facts" VALUES('model','"a digest"','a97ec77bbee99079');
INSERT INTO "facts" VALUES('skipped owl','"there are no zeros"','38db6306e44d051b');
CREATE TABLE steps (
    id INTEGER PRIMARY KEY,
    search TEXT NOT NULL,           -- 'found' or a baseline's name
    tokens INTEGER NOT NULL,
    evaluations INTEGER NOT NULL,
    incumbent TEXT NOT NULL,        -- JSON list of levels, or null
    checksum TEXT NOT NULL,
    UNIQUE (search, tokens, evaluations)
);
INSERT INTO "steps" VALUES(1,'found',32,1,'null','73659244bce1d504');
INSERT INTO "steps" VALUES(2,'found',64,2,'[0, 1, 0, 0, 0]','776402ad7589cc9e');
INSERT INTO "steps" VALUES(3,'found',96,3,'[0, 1, 0, 0, 0]','318c3a36d7ce3a0c');
CREATE TRIGGER facts_no_UPDATE BEFORE UPDATE ON facts BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER facts_no_DELETE BEFORE DELETE ON facts BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER evaluations_no_UPDATE BEFORE UPDATE ON evaluations BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER evaluations_no_DELETE BEFORE DELETE ON evaluations BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER choices_no_UPDATE BEFORE UPDATE ON choices BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER choices_no_DELETE BEFORE DELETE ON choices BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER steps_no_UPDATE BEFORE UPDATE ON steps BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER steps_no_DELETE BEFORE DELETE ON steps BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
COMMIT;
