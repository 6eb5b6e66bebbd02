//! The Phoenix and Supabase Realtime protocol: codec, sans-I/O channel and client.
