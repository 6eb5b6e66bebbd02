//! Properties of the codec: what is written can be read, and hostile input ends in an error.

mod client_channel;
mod client_connection;
mod client_hostile;
mod client_server;
mod hostile;
mod round_trip;
