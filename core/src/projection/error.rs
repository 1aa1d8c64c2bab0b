//! What can go wrong with a projection.

use crate::{code::coded_errors, ports::StoreError};

coded_errors! {
    /// What can go wrong with a projection.
    pub enum ProjectionError: "PROJECTION" {
        /// The app has no projection of that name.
        #[error("there is no projection {name}")]
        Unknown {
            /// The name.
            name: String,
        } = "ORK_PROJECTION_UNKNOWN", "UnknownProjectionError", transient: false;

        /// The projection is being rebuilt, here or in another process.
        #[error("projection {name} is being rebuilt already")]
        RebuildRunning {
            /// The projection.
            name: String,
        } = "ORK_PROJECTION_REBUILD_RUNNING", "RebuildRunningError", transient: true;

        /// The projection has no function that puts a rebuilt view in the place of the live one.
        #[error("projection {name} has no switch function and cannot be rebuilt beside the live view")]
        NoSwitch {
            /// The projection.
            name: String,
        } = "ORK_PROJECTION_NO_SWITCH", "NoSwitchError", transient: false;
    }
}

/// Why a projection cannot be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// What a store says.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another process rebuilds it.
    #[error(transparent)]
    Projection(#[from] ProjectionError),
}
