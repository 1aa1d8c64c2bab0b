//! Leases in PostgreSQL. They expire by the database's clock.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::types::Type;

use super::{
    PostgresStore,
    connect::Param,
    value::{Moment, unsigned},
};
use crate::ports::{FencingToken, Lease, LeaseStore, StoreError};

const ACQUIRE: &str = "SELECT token, expires_at FROM {schema}.acquire_lease($1, $2, $3, $4)";
const RELEASE: &str = "UPDATE {schema}.leases SET owner = NULL \
     WHERE name = $1 AND owner = $2 AND expires_at > coalesce($3, clock_timestamp())";

#[async_trait]
impl LeaseStore for PostgresStore {
    async fn acquire(
        &self,
        name: String,
        owner: String,
        ttl: Duration,
    ) -> Result<Option<Lease>, StoreError> {
        let now = self.told_time();
        self.execute(move |conn| {
            let (name, owner) = (name.clone(), owner.clone());
            async move {
                let micros = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX);
                let params: [Param<'_>; 4] = [
                    (&name, Type::TEXT),
                    (&owner, Type::TEXT),
                    (&micros, Type::INT8),
                    (&now, Type::TIMESTAMPTZ),
                ];
                let Some(row) = conn.query_opt(ACQUIRE, &params).await? else {
                    return Ok(None);
                };
                let token = FencingToken(unsigned(row.try_get(0)?));
                let expires_at = row.try_get::<_, Moment>(1)?.0;
                Ok(Some(Lease {
                    name,
                    owner,
                    token,
                    expires_at,
                }))
            }
        })?
        .await
    }

    async fn release(&self, name: String, owner: String) -> Result<bool, StoreError> {
        let now = self.told_time();
        self.execute(move |conn| {
            let (name, owner) = (name.clone(), owner.clone());
            async move {
                let params: [Param<'_>; 3] = [
                    (&name, Type::TEXT),
                    (&owner, Type::TEXT),
                    (&now, Type::TIMESTAMPTZ),
                ];
                Ok(conn.execute(RELEASE, &params).await? > 0)
            }
        })?
        .await
    }
}
