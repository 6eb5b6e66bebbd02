//! The domain of rowcall, pure: tasks, leases, retry, routes, filters and the ports the engine speaks to.
