//! Properties of the codec: what is written can be read, and hostile input ends in an error.

mod hostile;
mod round_trip;
