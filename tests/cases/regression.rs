//! One test for each defect that was found in the gateway.
