//! Tests that span packages; see the test targets beside this file.
