//! What one call at a time may use, over its waits.

use std::{
    cell::{Ref, RefCell},
    rc::Rc,
};

use orkestra::ports::StoreError;

use crate::error::throw;

/// A place that is empty while a call uses what is in it.
pub(crate) struct Slot<T>(Rc<RefCell<Option<T>>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Rc::new(RefCell::new(Some(value))))
    }

    /// What is in it, between two calls.
    pub(crate) fn with<R>(&self, use_it: impl FnOnce(&mut T) -> R) -> napi::Result<R> {
        let mut value = self.0.borrow_mut();
        value.as_mut().map(use_it).ok_or_else(|| throw(&in_use()))
    }

    /// As [`Slot::with`], without changing it.
    pub(crate) fn look<R>(&self, use_it: impl FnOnce(&T) -> R) -> napi::Result<R> {
        let value: Ref<'_, Option<T>> = self.0.borrow();
        value.as_ref().map(use_it).ok_or_else(|| throw(&in_use()))
    }

    /// Takes it out for a call.
    pub(crate) fn take(&self) -> Result<Lent<T>, StoreError> {
        let value = self.0.borrow_mut().take();
        if value.is_none() {
            return Err(in_use());
        }
        Ok(Lent {
            slot: self.clone(),
            value,
        })
    }
}

fn in_use() -> StoreError {
    StoreError::InvalidArgument {
        argument: "reader".into(),
        reason: "a call is under way".into(),
    }
}

/// What a call uses; back in its place when the call ends or is dropped.
pub(crate) struct Lent<T> {
    slot: Slot<T>,
    value: Option<T>,
}

impl<T> Lent<T> {
    pub(crate) fn get(&mut self) -> Result<&mut T, StoreError> {
        self.value.as_mut().ok_or(StoreError::Closed {})
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        *self.slot.0.borrow_mut() = self.value.take();
    }
}
