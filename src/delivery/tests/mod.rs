//! Delivery as subscribers see it: every event once, in order, from wherever they begin.

mod interleavings;
mod seam;
mod shards;
