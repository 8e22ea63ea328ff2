//! Delivery as subscribers see it: every event once, in order, from wherever they begin.

mod interleavings;
mod lag;
mod seam;
mod shards;
mod world;
