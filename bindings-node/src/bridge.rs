//! Core futures on Node's own loop: polled on the JavaScript thread, woken through one mailbox.
//!
//! A native method makes a future and polls it at once. If it has to wait, its waker, on whatever thread, puts the task's number into the
//! mailbox; the first number since the last drain also makes the one thread-safe call. JavaScript then calls [`Bridge::drain`], which polls
//! every task that was woken and returns what ended. The thread-safe function is weak: whether the process stays alive is `ts/bridge.ts`'s choice.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use napi::{
    Status,
    bindgen_prelude::{Either, Function},
    threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode},
};
use napi_derive::napi;
use orkestra::code::Coded;
use parking_lot::Mutex;

use crate::error::encode;

/// What a task ends with: JSON text, nothing, or an error as JSON text.
pub(crate) type Outcome = Result<Option<String>, String>;
/// A task's number while it waits; its text (or nothing) when it ended at once.
pub(crate) type Started = Either<u32, Option<String>>;

type Task = Pin<Box<dyn Future<Output = Outcome>>>;
type Wakeup = ThreadsafeFunction<(), (), (), Status, false, true>;

struct Mailbox {
    woken: Mutex<Vec<u32>>,
    called: AtomicBool,
    wakeup: Wakeup,
}

struct TaskWaker {
    task: u32,
    mailbox: Arc<Mailbox>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mailbox.woken.lock().push(self.task);
        if !self.mailbox.called.swap(true, Ordering::AcqRel) {
            // A loop that is closing needs no waking.
            self.mailbox
                .wakeup
                .call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

struct Tasks {
    waiting: RefCell<HashMap<u32, (Task, Waker)>>,
    /// What ended at once but is told like the rest.
    ended: RefCell<Vec<(u32, Outcome)>>,
    last: Cell<u32>,
    mailbox: Arc<Mailbox>,
}

/// The tasks of one JavaScript thread.
#[napi]
pub struct Bridge {
    tasks: Rc<Tasks>,
}

/// Starts tasks on the thread that made it.
#[derive(Clone)]
pub(crate) struct Spawner(Rc<Tasks>);

#[napi]
impl Bridge {
    /// `wakeup` is called on the JavaScript thread when [`Bridge::drain`] has something to do.
    #[napi(constructor)]
    pub fn new(wakeup: Function<(), ()>) -> napi::Result<Self> {
        let wakeup = wakeup
            .build_threadsafe_function::<()>()
            .weak::<true>()
            .build()?;
        Ok(Self {
            tasks: Rc::new(Tasks {
                waiting: RefCell::default(),
                ended: RefCell::default(),
                last: Cell::new(0),
                mailbox: Arc::new(Mailbox {
                    woken: Mutex::default(),
                    called: AtomicBool::new(false),
                    wakeup,
                }),
            }),
        })
    }

    /// Polls what was woken; returns number, whether it went well, and text of every task that ended, one after the other.
    #[napi]
    pub fn drain(&self) -> Vec<Either<u32, Option<String>>> {
        let mailbox = &self.tasks.mailbox;
        mailbox.called.store(false, Ordering::Release);
        let woken = std::mem::take(&mut *mailbox.woken.lock());
        let mut ended = Vec::with_capacity(woken.len() * 3);
        let mut end = |number: u32, outcome: Outcome| {
            ended.push(Either::A(number));
            ended.push(Either::A(u32::from(outcome.is_ok())));
            ended.push(Either::B(outcome.unwrap_or_else(Some)));
        };
        for (number, outcome) in self.tasks.ended.take() {
            end(number, outcome);
        }
        for number in woken {
            // Taken out while it runs: what it polls may start other tasks.
            let Some((mut task, waker)) = self.tasks.waiting.borrow_mut().remove(&number) else {
                continue;
            };
            match task.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Pending => {
                    self.tasks
                        .waiting
                        .borrow_mut()
                        .insert(number, (task, waker));
                }
                Poll::Ready(outcome) => end(number, outcome),
            }
        }
        ended
    }

    /// Drops a task; it never ends then.
    #[napi]
    pub fn cancel(&self, number: u32) {
        let task = self.tasks.waiting.borrow_mut().remove(&number);
        drop(task);
    }
}

impl Bridge {
    pub(crate) fn spawner(&self) -> Spawner {
        Spawner(Rc::clone(&self.tasks))
    }
}

impl Spawner {
    /// Runs `future`: to its end if it need not wait.
    pub(crate) fn start<E: Coded>(
        &self,
        future: impl Future<Output = Result<Option<String>, E>> + 'static,
    ) -> napi::Result<Started> {
        match self.begin(future) {
            (_, Some(Ok(text))) => Ok(Either::B(text)),
            (_, Some(Err(json))) => Err(napi::Error::from_reason(json)),
            (number, None) => Ok(Either::A(number)),
        }
    }

    /// Runs `future` and returns its number; [`Bridge::drain`] says how it ended, also if it need not wait. For one of many.
    pub(crate) fn post<E: Coded>(
        &self,
        future: impl Future<Output = Result<Option<String>, E>> + 'static,
    ) -> u32 {
        let (number, outcome) = self.begin(future);
        if let Some(outcome) = outcome {
            self.0.ended.borrow_mut().push((number, outcome));
            self.0.waker(number).wake();
        }
        number
    }

    fn begin<E: Coded>(
        &self,
        future: impl Future<Output = Result<Option<String>, E>> + 'static,
    ) -> (u32, Option<Outcome>) {
        let tasks = &self.0;
        let number = tasks.last.get() % u32::MAX + 1;
        tasks.last.set(number);
        let waker = tasks.waker(number);
        let mut task: Task = Box::pin(async move { future.await.map_err(|error| encode(&error)) });
        match task.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(outcome) => (number, Some(outcome)),
            Poll::Pending => {
                tasks.waiting.borrow_mut().insert(number, (task, waker));
                (number, None)
            }
        }
    }
}

impl Tasks {
    fn waker(&self, task: u32) -> Waker {
        Waker::from(Arc::new(TaskWaker {
            task,
            mailbox: Arc::clone(&self.mailbox),
        }))
    }
}
