//! The engine of rowcall: inbox, admission, claims, heartbeats, settlement, sweeps and the local store.
