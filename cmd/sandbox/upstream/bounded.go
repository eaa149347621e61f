package upstream

// bounded is a map that forgets its oldest keys beyond a limit. It is not safe for concurrent use.
type bounded[K comparable, V any] struct {
	limit   int
	values  map[K]V
	order   []K
	dropped int
}

func newBounded[K comparable, V any](limit int) *bounded[K, V] {
	return &bounded[K, V]{limit: limit, values: map[K]V{}}
}

func (b *bounded[K, V]) get(key K) (V, bool) {
	value, ok := b.values[key]
	return value, ok
}

func (b *bounded[K, V]) put(key K, value V) {
	if _, known := b.values[key]; !known {
		b.order = append(b.order, key)
	}
	b.values[key] = value
	if len(b.values) > b.limit {
		delete(b.values, b.order[0])
		b.order = b.order[1:]
		b.dropped++
	}
}

// each visits the entries in the order in which they came.
func (b *bounded[K, V]) each(visit func(K, V)) {
	for _, key := range b.order {
		visit(key, b.values[key])
	}
}
