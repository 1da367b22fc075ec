//! The contract of whoever drives the sync machine, played by the simulator and by the native host. The page plays the same
//! scenarios in `www/tests/contract.spec.ts`.

mod list;
mod native;
mod simulated;
