//! The log as a whole: against a model, and case by case.

mod batches;
mod fuzz;
mod latest;
mod lookup;
mod model;
mod repeats;
mod slices;
