//! Models in memory: loaded at their first use and kept, up to a number of them; the one that was used longest
//! ago makes place for another, and never one that a slot still uses. It owns no policy of what a model is.

use sdrest_proto::bounds::ModelName;
use std::rc::Rc;

/// See the module.
#[derive(Debug)]
pub struct Residency<Model> {
    /// The one that was used last at the end.
    resident: Vec<(ModelName, Rc<Model>)>,
    max: usize,
}

impl<Model> Residency<Model> {
    /// At most `max` models, at least one.
    pub fn new(max: usize) -> Self {
        Self { resident: Vec::new(), max: max.max(1) }
    }

    pub fn holds(&self, name: &ModelName) -> bool {
        self.resident.iter().any(|(resident, _)| resident == name)
    }

    /// Whether `name` is there, or there is a place for it, or one can be made.
    pub fn has_room(&self, name: &ModelName) -> bool {
        self.holds(name) || !self.is_full() || self.resident.iter().any(|(_, model)| is_idle(model))
    }

    /// The models in memory.
    pub fn names(&self) -> Vec<ModelName> {
        self.resident.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The model, without counting as a use of it.
    pub fn peek(&self, name: &ModelName) -> Option<&Model> {
        self.resident.iter().find(|(resident, _)| resident == name).map(|(_, model)| &**model)
    }

    /// Whether one must go before another can come.
    pub fn is_full(&self) -> bool {
        self.resident.len() >= self.max
    }

    /// The model, which counts as used now.
    pub fn get(&mut self, name: &ModelName) -> Option<Rc<Model>> {
        let place = self.resident.iter().position(|(resident, _)| resident == name)?;
        let entry = self.resident.remove(place);
        let model = Rc::clone(&entry.1);
        self.resident.push(entry);
        Some(model)
    }

    /// Makes place for one more, where it is needed and possible: before loading, so that both are never in
    /// memory together. Answers which model went.
    pub fn make_room(&mut self) -> Option<ModelName> {
        if !self.is_full() {
            return None;
        }
        let place = self.resident.iter().position(|(_, model)| is_idle(model))?;
        Some(self.resident.remove(place).0)
    }

    pub fn put(&mut self, name: ModelName, model: Model) -> Rc<Model> {
        let model = Rc::new(model);
        self.resident.push((name, Rc::clone(&model)));
        model
    }

    /// Lets a model go; slots that use it keep it until they end. Answers whether it was there.
    pub fn remove(&mut self, name: &ModelName) -> bool {
        let before = self.resident.len();
        self.resident.retain(|(resident, _)| resident != name);
        self.resident.len() < before
    }
}

fn is_idle<Model>(model: &Rc<Model>) -> bool {
    Rc::strong_count(model) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ModelName {
        ModelName::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn the_one_used_longest_ago_goes_but_never_one_in_use() {
        let mut residency = Residency::new(2);
        let used = residency.put(name("a"), 1);
        residency.put(name("b"), 2);
        assert!(residency.has_room(&name("c")));
        assert_eq!(residency.make_room(), Some(name("b")), "a is older but in use");
        let also_used = residency.put(name("c"), 3);
        assert!(!residency.has_room(&name("d")));
        assert!(residency.has_room(&name("a")));
        assert_eq!(residency.make_room(), None);
        drop((used, also_used));
        assert_eq!(residency.get(&name("a")).as_deref(), Some(&1));
        assert_eq!(residency.make_room(), Some(name("c")), "a was used since");
    }

    #[test]
    fn an_unloaded_model_lives_as_long_as_its_slots() {
        let mut residency = Residency::new(1);
        let used = residency.put(name("a"), 1);
        assert!(residency.remove(&name("a")));
        assert!(!residency.remove(&name("a")));
        assert_eq!(*used, 1);
        assert!(residency.has_room(&name("b")));
    }
}
