//! Tells somebody else that runbookd is well, so that its own death is noticed.
