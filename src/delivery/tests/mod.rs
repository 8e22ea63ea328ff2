//! Delivery as subscribers see it: every event once, in order, from wherever they begin.

mod seam;
mod shards;
