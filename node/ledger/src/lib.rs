//! claviger-ledger.
