//! What can go wrong in a store.

use crate::{
    code::{Cause, coded_errors},
    ports::ExpectedRevision,
};

coded_errors! {
    /// What can go wrong in a store.
    pub enum StoreError: "STORE" {
        /// The stream is not at the revision that the append expected.
        #[error("expected {} {stream}, found {}", expected.describe(), crate::ports::error::found(*actual))]
        RevisionConflict {
            /// The stream.
            stream: String,
            /// What was expected: `no_stream`, `stream_exists` or a revision.
            expected: ExpectedRevision,
            /// The stream's last revision, `None` when there is no stream.
            actual: Option<u64>,
        } = "ORK_STORE_REVISION_CONFLICT", "RevisionConflictError", transient: false;

        /// An event id of the batch is stored already, and the batch is no repetition of a stored one.
        #[error("event {event_id} is stored already in {stream}")]
        DuplicateEvent {
            /// The id.
            event_id: String,
            /// The stream that holds it.
            stream: String,
        } = "ORK_STORE_DUPLICATE_EVENT", "DuplicateEventError", transient: false;

        /// The stream's name is empty, too long, reserved or has a control character.
        #[error("stream name {stream}: {reason}")]
        InvalidStreamName {
            /// The name, shortened.
            stream: String,
            /// What is wrong with it.
            reason: String,
        } = "ORK_STORE_INVALID_STREAM_NAME", "InvalidStreamNameError", transient: false;

        /// An argument is out of its range.
        #[error("{argument}: {reason}")]
        InvalidArgument {
            /// The argument.
            argument: String,
            /// What was expected and found.
            reason: String,
        } = "ORK_STORE_INVALID_ARGUMENT", "InvalidArgumentError", transient: false;

        /// The store is away; the call may succeed later. Whether a write took place is not known.
        #[error("the store is unavailable: {reason}")]
        Unavailable {
            /// What the driver says.
            reason: String,
        } = "ORK_STORE_UNAVAILABLE", "StoreUnavailableError", transient: true;

        /// Another program holds the store's file for longer than the wait allowed.
        #[error("{path} is locked by another program")]
        Locked {
            /// The file.
            path: String,
        } = "ORK_STORE_LOCKED", "StoreLockedError", transient: true;

        /// The store's file or folder cannot be opened or made.
        #[error("cannot open {path}: {reason}")]
        CannotOpen {
            /// The file.
            path: String,
            /// What the system says.
            reason: String,
        } = "ORK_STORE_CANNOT_OPEN", "CannotOpenStoreError", transient: false;

        /// The file is something else, or damaged.
        #[error("{path} is not an Orkestra database: {reason}")]
        NotADatabase {
            /// The file.
            path: String,
            /// What was found.
            reason: String,
        } = "ORK_STORE_NOT_A_DATABASE", "NotADatabaseError", transient: false;

        /// The store is on a read-only disk or without permission to write.
        #[error("{path} is read-only")]
        ReadOnly {
            /// The file.
            path: String,
        } = "ORK_STORE_READ_ONLY", "ReadOnlyStoreError", transient: false;

        /// The disk is full. Nothing of the call was stored.
        #[error("no space is left for {path}")]
        DiskFull {
            /// The file.
            path: String,
        } = "ORK_STORE_DISK_FULL", "DiskFullError", transient: true;

        /// The database was written by a newer release.
        #[error("{store} has schema {found}, this release knows up to {supported}")]
        NewerSchema {
            /// The database.
            store: String,
            /// Its schema version.
            found: u32,
            /// The newest that this release knows.
            supported: u32,
        } = "ORK_STORE_NEWER_SCHEMA", "NewerSchemaError", transient: false;

        /// The server refuses the user: a wrong password, no such user, or no entry for it.
        #[error("{store} refuses the login: {reason}")]
        AccessDenied {
            /// The store, without the password.
            store: String,
            /// What the server says.
            reason: String,
        } = "ORK_STORE_ACCESS_DENIED", "AccessDeniedError", transient: false;

        /// The server has no such database.
        #[error("there is no database {database} at {store}")]
        NoDatabase {
            /// The server.
            store: String,
            /// The database's name.
            database: String,
        } = "ORK_STORE_NO_DATABASE", "NoDatabaseError", transient: false;

        /// The user may not do that.
        #[error("{store} does not permit it: {reason}")]
        PermissionDenied {
            /// The store.
            store: String,
            /// What the server says; it names the object.
            reason: String,
        } = "ORK_STORE_PERMISSION_DENIED", "PermissionDeniedError", transient: false;

        /// The store cannot hold a payload that is JSON all the same.
        #[error("event {event_id} cannot be stored here: {}{reason}", crate::ports::error::at(path))]
        UnsupportedPayload {
            /// The event.
            event_id: String,
            /// Where in its data, or its metadata: `$.data.notes`. Empty when it is not known.
            path: String,
            /// What the store cannot hold.
            reason: String,
        } = "ORK_STORE_UNSUPPORTED_PAYLOAD", "UnsupportedPayloadError", transient: false;

        /// What is stored cannot be read as what it should be.
        #[error("{what} is damaged: {reason}")]
        Corrupt {
            /// What: a stream and revision, a checkpoint, …
            what: String,
            /// What is wrong.
            reason: String,
        } = "ORK_STORE_CORRUPT", "CorruptError", transient: false;

        /// We refuse the server: its certificate is not one that the connection is to trust.
        #[error("the certificate of {server} is not trusted: {reason}")]
        UntrustedServer {
            /// Host and port.
            server: String,
            /// What is wrong with the certificate.
            reason: String,
        } = "ORK_STORE_UNTRUSTED_SERVER", "UntrustedServerError", transient: false;

        /// This store cannot do that. Its capabilities and its page in the documentation say what it can.
        #[error("{store} cannot {what}: {reason}")]
        Unsupported {
            /// The store.
            store: String,
            /// What was asked of it.
            what: String,
            /// Why it cannot.
            reason: String,
        } = "ORK_STORE_UNSUPPORTED", "UnsupportedError", transient: false;

        /// The stream was hard deleted, and this store never lets it begin again.
        #[error("stream {stream} was deleted for good")]
        StreamDeleted {
            /// The stream.
            stream: String,
        } = "ORK_STORE_STREAM_DELETED", "StreamDeletedError", transient: false;

        /// The store is closed.
        #[error("the store is closed")]
        Closed {} = "ORK_STORE_CLOSED", "StoreClosedError", transient: false;

        /// A checkpoint is not where the save expected it.
        #[error("checkpoint {name}: expected {}, found {}", crate::ports::error::place(*expected), crate::ports::error::place(*actual))]
        CheckpointMismatch {
            /// The checkpoint.
            name: String,
            /// The expected position, `None` for none.
            expected: Option<u64>,
            /// The position found.
            actual: Option<u64>,
        } = "ORK_STORE_CHECKPOINT_MISMATCH", "CheckpointMismatchError", transient: false;

        /// A checkpoint would move backwards, and the save is no reset.
        #[error("checkpoint {name} stands at {actual}, {position} is behind it")]
        CheckpointBehind {
            /// The checkpoint.
            name: String,
            /// The position of the save.
            position: u64,
            /// The position found.
            actual: u64,
        } = "ORK_STORE_CHECKPOINT_BEHIND", "CheckpointBehindError", transient: false;

        /// The lease was granted to another owner since.
        #[error("lease {name}: token {token} is older than {current}")]
        StaleLease {
            /// The lease.
            name: String,
            /// The token of the caller.
            token: u64,
            /// The newest token granted.
            current: u64,
        } = "ORK_STORE_STALE_LEASE", "StaleLeaseError", transient: false;

        /// There is no dead letter of that id.
        #[error("no dead letter {id}")]
        NoDeadLetter {
            /// The id.
            id: String,
        } = "ORK_STORE_NO_DEAD_LETTER", "NoDeadLetterError", transient: false;
    }
}

impl StoreError {
    /// An unavailable store, with what the driver said.
    pub fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable {
            reason: Cause::new(error).to_string(),
        }
    }
}

fn found(actual: Option<u64>) -> String {
    actual.map_or_else(|| "no stream".to_owned(), |r| r.to_string())
}

fn at(path: &str) -> String {
    if path.is_empty() {
        String::new()
    } else {
        format!("{path}: ")
    }
}

fn place(position: Option<u64>) -> String {
    position.map_or_else(|| "none".to_owned(), |p| p.to_string())
}
