//! Coordinators and signal sources of rowcall: where tasks live and how they are claimed.
