"""Every limit, in one place, with its unit and its reason."""

from typing import Final

# Requests
MAX_REQUEST_BYTES: Final = (
    8 * 1024 * 1024
)  # a Job Spec of MAX_CIRCUITS small circuits, or one of MAX_SOURCE_BYTES in base64
HTTP_HEAD_S: Final = 10.0  # seconds a client may take to send a request's head, which is one packet
HTTP_BODY_S: Final = 60.0  # seconds for its body: MAX_REQUEST_BYTES at 1.1 Mbit/s
MAX_JSON_DEPTH: Final = 64  # deeper JSON serves no purpose here and costs recursion
PAGE_DEFAULT: Final = 50  # rows of a listing
PAGE_MAX: Final = 500  # rows of a listing; keeps one answer under about 1 MB
STREAMS_PER_PRINCIPAL: Final = (
    50  # jobs one principal may follow at once in one process; each looks ten times a second
)

# Circuits
MAX_SOURCE_BYTES: Final = 1024 * 1024  # 100,000 gates are 0.8 MB; the native importer takes 1 s for them
MAX_CIRCUITS: Final = 100  # circuits in one job; vendors batch 20 to 300
MAX_PARAMETERS: Final = 20_000  # values of parameters in one job; each is named in its evidence, 40 bytes
MAX_QUBITS: Final = 10_000  # declared qubits; above it the importers run out of memory
MAX_NESTING: Final = 64  # brackets and blocks; 10,000 crash every parser (SIGSEGV)
MAX_UNARY_RUN: Final = 16  # consecutive unary operators; 100,000 crash or hang every parser
MAX_GATES: Final = 2_000_000  # operations counted after loops; a bound on what a job may ask for
CIRCUIT_DEADLINE_S: Final = 5.0  # processor seconds one circuit may take to be read
CIRCUIT_MEMORY_BYTES: Final = 2 * 1024**3  # address space of the reading process
READ_JOB_S: Final = (
    10.0  # processor seconds all circuits of one job may take to be read; MAX_REQUEST_BYTES of gates take 8
)
READ_JOBS_PER_TENANT: Final = 2  # jobs of one tenant whose circuits are read at once
READ_JOBS_WAITING: Final = 20  # more of a tenant's jobs wait; half of the API's threads stay free for others
READ_WAIT_S: Final = 5.0  # seconds such a job waits before its sender is told to come again

# Jobs
MAX_SHOTS: Final = 10_000_000  # per circuit; largest vendor limit is 1,000,000
MAX_RETENTION_DAYS: Final = 36_500  # one hundred years
MAX_NAME: Final = 200  # characters of ids and tags
IDEMPOTENCY_KEY_MAX: Final = 255  # characters, as Stripe

ADMIT_BATCH: Final = (
    16  # requests of a tenant admitted in one scope; with POLICY_DEADLINE_S each it stays short
)

# Policy
POLICY_DEADLINE_S: Final = 0.100  # one evaluation; a shipped bundle takes under 1 ms
POLICY_MEMORY_BYTES: Final = 3 * 1024**3 // 2  # address space; the engine's allocator reserves 1 GiB at start
MAX_POLICY_BYTES: Final = 1024 * 1024  # one bundle, all files; the engine's own limit per file
MAX_POLICY_FILES: Final = 200  # files of one bundle
MAX_VERDICT_BYTES: Final = 1024 * 1024  # the policies' answer; 500 backends excluded 4 times are 0.5 MB
MAX_VERDICT_REASONS: Final = 100  # denials kept in one decision; more tell nobody more
POLICY_LOAD_DEADLINE_S: Final = 10.0  # start the process, read and check a bundle of MAX_POLICY_BYTES
POLICY_TEST_DEADLINE_S: Final = 30.0  # all tests of one bundle; the child ends itself after 60

# Ledger
MAX_ENTRY_BYTES: Final = 65_535  # C2SP tlog-tiles: an entry's length is a uint16
SEQUENCE_BATCH: Final = 4_096  # entries taken into one checkpoint
SEQUENCE_INTERVAL_S: Final = 0.2  # pause between checkpoints; an entry is covered within 1 s
CHECKPOINT_FRESH_S: Final = (
    900.0  # age at which an idle log's checkpoint is signed and witnessed again; three signatures and a file
)
MAX_BACKLOG_ENTRIES: Final = 100_000  # entries that wait for the sequencer; it takes 20,000 a second, so more means that it stands still
MAX_BACKLOG_S: Final = 120.0  # seconds the oldest of them may wait; a sequencer that died is back within ten
BACKLOG_RETRY_S: Final = 5.0  # when to come again, as the answer says
GROUP_RECORDS: Final = 2_000  # records written in one scope by `GroupAppender`, 1 MB
MAX_RECORD_BYTES: Final = 65_535  # one record; larger documents are recorded by their digest
MAX_NOTE_BYTES: Final = 256 * 1024  # a checkpoint with 16 post-quantum signatures is 80 kB
MAX_NOTE_SIGNATURES: Final = 100  # signature lines of one note, as Go's reference
MAX_WITNESS_POLICY_BYTES: Final = 512 * 1024  # 100 keys of 1.8 kB, twice; tlog-policy asks for 32 at least
MAX_WITNESSES: Final = 100  # logs, witnesses or groups of one policy; a note has so many signatures
WITNESS_TIMEOUT_S: Final = 2.0  # one witness's answer; a checkpoint does not wait longer for it
WITNESS_GRACE_S: Final = 0.05  # for the other witnesses, once those that answered are enough
WITNESS_PAUSE_MAX_S: Final = 5.0  # longest pause between two rounds while the witnesses are not enough
WITNESS_CONNECTIONS: Final = 64  # served at once by one witness; a log keeps one open
WITNESS_REQUEST_S: Final = 10.0  # one request to a witness, first byte to last
ANCHOR_EXCHANGE_S: Final = 60.0  # one exchange with a chain's node or a calendar, to the last byte
ANCHOR_CALENDAR_BYTES: Final = 10_000  # a calendar's answer, as the reference client takes
ANCHOR_NODE_BYTES: Final = (
    64 * 1024 * 1024
)  # a node's answer: 100 transactions of 128 kB are 26 MB in hexadecimal
WITNESS_REFUSED_KEPT: Final = 100  # contradicting checkpoints a witness keeps of one log

# WORM copies
WORM_BATCH: Final = 64  # copies made between two notes of them; so many are handed in again after a crash
WORM_EXAMINED: Final = 100  # old copies looked at in one round: at one round a minute 144,000 a day
WORM_COPY_BYTES: Final = (
    32 * 1024 * 1024
)  # what is read of a copy whose size is not known; the largest is a tile of 256 entries, 16.8 MB
WORM_LOCK_S: Final = (
    60.0  # seconds another process may hold a folder: it writes one copy, with three flushes of the disk
)
WORM_ON_TOP: Final = 100  # attempts on one copy that are told at once; more tell nobody more
WORM_RENEWED: Final = 1_000  # renewals copied in one round, about: one token covers 20,000 bundles, and the ledger's copies wait meanwhile
WORM_RENEWALS: Final = 400  # renewals of one bundle that are restored, as many as an evidence record holds
WORM_HELD_DAYS: Final = (
    30  # days that a copy under a legal hold is locked ahead at least: an archive may be away for a month
)
WORM_HELD_STEP_DAYS: Final = (
    90  # days ahead once it is lengthened: one write in two months; how long it stays locked after a release
)
WORM_LENGTHENED: Final = (
    1_000  # locks lengthened in one round, about: three calls each, and the ledger's copies wait meanwhile
)
WORM_HELD_LOOK_S: Final = (
    3600.0  # seconds between two looks at the copies of a tenant whose holds are the same; against days
)

# Evidence
MAX_BUNDLE_BYTES: Final = 4 * 1024 * 1024  # what the offline verifier reads before it refuses
MAX_MATERIAL_BYTES: Final = 8 * 1024 * 1024  # one document kept beside a bundle; 1,000,000 shots of 8 qubits
MAX_MATERIALS_BYTES: Final = 32 * 1024 * 1024  # all of one job; of what is beyond only the digests are kept
MAX_TOOLCHAIN_BYTES: Final = (
    64 * 1024
)  # what compiled and ran a job; it stands in the bundle itself, mostly 2 kB
MAX_CLOCK_DRIFT_S: Final = 300  # seconds two clocks may be apart; beyond, times mean nothing

# Keys
KEY_POLL_S: Final = 1.0  # pause between two looks at the version of the registry; one small statement each
KEY_LEASE_S: Final = 5.0  # a process signs with the keys it knows for so long after it last looked
KEY_EFFECT_S: Final = (
    10  # from the act to when a revoked key stops counting: twice the lease, so nobody signs in vain
)
KEY_OVERLAP_S: Final = (
    3600  # what a retired key signed counts for so long by default; jobs in flight take seconds
)
KEY_OVERLAP_MAX_S: Final = 90 * 86_400  # a key that is to count longer is not retired yet
TRUST_PAGE: Final = (
    20  # steps of the trust document's succession in one answer: 28 MB if all are as long as they may be
)
KEY_ORPHAN_S: Final = 3600  # a key file that nobody registered for so long was left by a process that died
MAX_CHAIN_BYTES: Final = 64 * 1024  # certificates of one key; one signed with ML-DSA-65 is 5.4 kB
MAX_WRAPPED_KEY_BYTES: Final = 4_096  # one key to be wrapped; AWS KMS encrypts no more at once
KEYSTORE_CALL_S: Final = 10.0  # one call of a key store's server, until it connects and between two bytes
KEYSTORE_ATTEMPTS: Final = 3  # such calls before the store counts as away; sealing then waits and asks again
KEYSTORE_PAUSE_S: Final = 0.2  # first pause between two of them; the next one is twice that
MAX_WRAP_CONTEXT_BYTES: Final = (
    1_024  # what a wrapped key is bound to; AWS KMS takes 8,192 characters of JSON
)

# Time stamps
RENEWAL_BUNDLES: Final = 20_000  # bundles whose time stamps one token renews; each row is 1 kB
RENEWAL_READ: Final = 100  # bundles read at once for it, about 20 kB each
RENEWAL_INTERVAL_S: Final = 6 * 3600.0  # seconds between two looks at certificates that live for years
TSA_CONNECTIONS: Final = 512  # of the time-stamping service at once; beyond, 503
TSA_BODY_S: Final = 5.0  # seconds a client of it may take to send its request, which is one packet
TSA_IDLE_S: Final = 15  # seconds a connection to it may be silent between requests

# Secrecy and retention
TENANT_KEY_KEPT_S: Final = 300.0  # seconds a tenant's key stays unwrapped in memory after it was fetched
TENANT_KEY_AHEAD_S: Final = 60.0  # seconds before its time is over that a key in use is asked for anew, so that no request waits for it
TENANT_KEY_SWEEP_S: Final = 1.0  # pause between two looks for keys whose time is over
KEY_STORE_WAIT_S: Final = (
    5.0  # seconds a thread waits for a tenant's key; most stores answer in a tenth of one
)
KEY_STORE_WAITING: Final = 10  # threads that wait so long; three quarters of the API's stay free
KEY_STORE_MOMENT_S: Final = 0.5  # seconds further ones wait: many that need one key get it in a tenth of that
KEY_STORE_CROWD: Final = (
    30  # threads that wait at all; the last quarter of the API's serves what needs no key
)
KEY_STORE_ASKED: Final = 8  # calls of one key store under way for them: 10 ms each are 800 keys a second
KEY_STORE_REST_S: Final = 2.0  # seconds a key store that was away, or refused a key, is not asked again
TENANT_KEYS_KEPT: Final = 10_000  # unwrapped keys in one process, some hundred bytes each
TENANT_KEY_DAYS: Final = 30  # days one generation wraps: a random nonce allows 2^32 wrappings (SP 800-38D), 1,600 jobs a second for 31 days
ERASURE_GRACE_DAYS: Final = 7  # days after its time that a payload is erased: a clock may be so far ahead
CLOCK_STEP_DAYS: Final = (
    7  # days the clock may have moved since it was last looked at before erasing stops and asks
)
ERASURE_BATCH: Final = 200  # payloads erased in one scope, which keeps holds from being placed for its time
MAX_HOLD_REASON: Final = (
    500  # characters of why something is held, released or erased; they stand in the ledger for ever
)
ERASURE_INTERVAL_S: Final = 60.0  # pause between rounds of erasing

# Worker
HEARTBEAT_TIMEOUT_S: Final = (
    6.0  # a worker silent for so long is taken for dead and its tasks are picked again
)
DEQUEUE_TIMEOUT_S: Final = 2.0  # idle poll, which also finds the tasks of dead workers
STAGE_BATCH: Final = 64  # jobs whose stage is written in one scope
MAX_ATTEMPTS: Final = 5  # times a job may lose its worker before it is failed as poison
CROWD_ATTEMPTS: Final = (
    2  # a job that has lost so many workers runs apart from other such jobs: it may be what they died of
)
RESULT_PAUSE_MAX_S: Final = 300.0  # longest pause before a result that could not be sealed is tried again

# Identity
TOKEN_DAYS_DEFAULT: Final = 90  # life of an API token when nothing is asked for
TOKEN_DAYS_MAX: Final = 366  # a token that nobody renews within a year belongs to nobody
MAX_ATTRIBUTES_BYTES: Final = 16 * 1024  # attributes of one principal; they travel in every policy input
MAX_ATTRIBUTES_DEPTH: Final = 16  # levels of objects and lists in them; a directory's have two or three

# Metering
MAX_MICRO: Final = 2**53 - 1  # micro-units; the largest integer RFC 8785 can carry (9 billion currency units)
MAX_BOOK_BYTES: Final = 4 * 1024 * 1024  # one price book; the shipped one is under 30 kB

# Client
CLIENT_TIMEOUT_S: Final = 30.0  # one request of the client, connection to last byte read in between
CLIENT_ATTEMPTS: Final = 6  # sendings of one request; with the backoff below about 3 s of patience
CLIENT_BACKOFF_S: Final = 0.1  # first pause between two sendings; doubles
CLIENT_BACKOFF_MAX_S: Final = 5.0  # longest pause the client chooses itself
CLIENT_RETRY_AFTER_MAX_S: Final = (
    60.0  # a server that asks for a longer pause gets none: the error goes to the caller
)
CLIENT_ANSWER_BYTES: Final = 64 * 1024 * 1024  # one answer; the largest are results of MAX_CIRCUITS circuits
CLIENT_EVENT_BYTES: Final = 1024 * 1024  # one server-sent event

# Backends and drivers
BACKEND_SILENCE_S: Final = 30.0  # a backend whose worker was not seen for so long is offline
BACKEND_HISTORY_DAYS: Final = (
    30  # days of outcomes that count in a backend's history; one calibration cycle and more
)
DRIVER_CALL_S: Final = 300.0  # one call of a driver; each returns at once, or waits for its vendor's network
LOCAL_RUN_SECONDS: Final = 900  # one circuit list on a local simulator; heavier work belongs to a scheduler
LOCAL_RUN_BYTES: Final = (
    12 * 1024**3
)  # address space of a simulating process: 27 qubits are 2 GiB, libraries reserve 3
LOCAL_RUNS_KEPT: Final = 4_096  # ended local runs whose outcome waits to be fetched
LOCAL_FETCHED_KEPT: Final = 1_024  # fetched local runs that can be fetched again
LOCAL_STRINGS_KEPT: Final = 1_000_000  # bit strings in those, about 100 MB
LOCAL_QUEUE_MAX: Final = 100_000  # runs waiting for one local driver
CIRCUITS_CACHED: Final = (
    256  # parsed circuits one simulating process keeps, each of at most CACHED_CIRCUIT_GATES
)
CACHED_CIRCUIT_GATES: Final = 5_000  # about 2 MB parsed
