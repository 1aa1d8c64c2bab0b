//! Telling a database that is away from an event that cannot be handled. Pure.

use crate::ports::ErrorRecord;

/// Types of errors, as their languages and drivers name them, that say: not now. `psycopg.OperationalError` also stands for a deadlock and for a
/// serialisation failure. `sqlite3.OperationalError` is not here: it is also what a typing error in SQL raises.
const AWAY: &[&str] = &[
    // Python
    "builtins.ConnectionError",
    "builtins.ConnectionRefusedError",
    "builtins.ConnectionResetError",
    "builtins.ConnectionAbortedError",
    "builtins.BrokenPipeError",
    "ConnectionError",
    "psycopg.OperationalError",
    "psycopg_pool.PoolTimeout",
    "psycopg_pool.errors.PoolTimeout",
    "psycopg2.OperationalError",
    "asyncpg.exceptions.PostgresConnectionError",
    "asyncpg.exceptions._base.ConnectionDoesNotExistError",
    "asyncpg.exceptions.ConnectionDoesNotExistError",
    "asyncpg.exceptions.InsufficientResourcesError",
    "asyncpg.exceptions.OperatorInterventionError",
    "asyncpg.exceptions.TransactionRollbackError",
    "sqlalchemy.exc.TimeoutError",
    // Names of the system: the `code` of an error of Node, the `errno` of one of Python
    "ECONNREFUSED",
    "ECONNRESET",
    "ECONNABORTED",
    "EHOSTUNREACH",
    "EHOSTDOWN",
    "ENETUNREACH",
    "ENETDOWN",
    "EPIPE",
    "ETIMEDOUT",
    "ENOTFOUND",
    "EAI_AGAIN",
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_FULL",
];

/// Whether an error of these types (its own first, then its bases), or one of its causes, says that something is away that comes back: its message is
/// no event's fault, so it uses up no retry. A five-character SQLSTATE of the classes 08, 40, 53, 57 and 58 counts as a type.
pub fn is_outage(error_types: &[String], errors: &[ErrorRecord]) -> bool {
    error_types
        .iter()
        .map(String::as_str)
        .chain(errors.iter().map(|record| record.error_type.as_str()))
        .any(says_away)
}

fn says_away(error_type: &str) -> bool {
    AWAY.contains(&error_type) || is_sqlstate_of_an_outage(error_type)
}

/// PostgreSQL, Appendix A: connection exceptions, transaction rollbacks, insufficient resources, operator intervention, system errors.
fn is_sqlstate_of_an_outage(code: &str) -> bool {
    code.len() == 5
        && code
            .bytes()
            .all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
        && ["08", "40", "53", "57", "58"]
            .iter()
            .any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(error_type: &str) -> ErrorRecord {
        ErrorRecord {
            error_type: error_type.into(),
            message: String::new(),
            trace: String::new(),
        }
    }

    #[test]
    fn a_database_that_is_away_is_nobodys_fault() {
        for error in ["psycopg.OperationalError", "ECONNREFUSED", "57P01", "40001"] {
            assert!(is_outage(&[error.to_owned()], &[]), "{error}");
        }
        for error in ["builtins.ValueError", "23505", "42P01", "Error", "08"] {
            assert!(!is_outage(&[error.to_owned()], &[]), "{error}");
        }
    }

    #[test]
    fn a_cause_counts_too() {
        let chain = [
            record("sqlalchemy.exc.OperationalError"),
            record("psycopg.OperationalError"),
        ];

        assert!(is_outage(&[], &chain));
        assert!(!is_outage(&[], &chain[..1]));
    }
}
