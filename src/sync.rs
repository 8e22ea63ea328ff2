//! The lock of what threads share: std's mutex.
//!
//! Unit tests have one besides that is std's outside and loom's inside of [`model`], which tries
//! every order in which threads can take it. So what is proved is the code that runs. Whoever has a
//! protocol between threads takes its lock from here.

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(test)]
pub(crate) use self::modelled::{Mutex, MutexGuard, block_on, model, spawn};

#[cfg(test)]
mod modelled {
    use std::cell::Cell;
    use std::ops::{Deref, DerefMut};
    use std::sync::LockResult;

    use loom::thread::{Builder, JoinHandle};

    pub(crate) use loom::future::block_on;

    #[derive(Debug)]
    pub(crate) enum Mutex<T> {
        Modelled(loom::sync::Mutex<T>),
        Plain(std::sync::Mutex<T>),
    }

    #[derive(Debug)]
    pub(crate) enum MutexGuard<'a, T> {
        Modelled(loom::sync::MutexGuard<'a, T>),
        Plain(std::sync::MutexGuard<'a, T>),
    }

    thread_local! {
        /// A model's threads are all on the thread that runs it.
        static IS_IN_MODEL: Cell<bool> = const { Cell::new(false) };
    }

    /// Runs `world` again and again, until its threads have met in every order with up to
    /// `max_preemptions` switches that no thread had to make. A deadlock fails it, too.
    pub(crate) fn model(max_preemptions: usize, world: impl Fn() + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(max_preemptions);
        builder.max_branches = 10_000;
        IS_IN_MODEL.set(true);
        builder.check(world);
        IS_IN_MODEL.set(false);
    }

    /// A thread of a model.
    pub(crate) fn spawn<T: Send + 'static>(
        run: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        /// In words: enough for a shard, without optimization.
        const STACK: usize = 128 * 1024;
        let builder = Builder::new().stack_size(STACK);
        builder.spawn(run).expect("a thread of a model")
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(data: T) -> Self {
            if IS_IN_MODEL.get() {
                Self::Modelled(loom::sync::Mutex::new(data))
            } else {
                Self::Plain(std::sync::Mutex::new(data))
            }
        }

        pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
            match self {
                // Poison is a failed model.
                Self::Modelled(mutex) => Ok(MutexGuard::Modelled(mutex.lock().expect("no poison"))),
                Self::Plain(mutex) => match mutex.lock() {
                    Ok(guard) => Ok(MutexGuard::Plain(guard)),
                    Err(poison) => Err(std::sync::PoisonError::new(MutexGuard::Plain(
                        poison.into_inner(),
                    ))),
                },
            }
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;

        fn deref(&self) -> &T {
            match self {
                Self::Modelled(guard) => guard,
                Self::Plain(guard) => guard,
            }
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            match self {
                Self::Modelled(guard) => guard,
                Self::Plain(guard) => guard,
            }
        }
    }
}
