//! Child processes of rowcall: agents per task, warm workers, process groups and captured output.
