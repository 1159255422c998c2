package node

// Filter selects flows; its zero value selects all.
type Filter struct{ Namespace, Pod string }

// Match tells whether a flow is selected.
func (f Filter) Match(x *Flow) bool {
	return (f.Pod == "" || f.Pod == x.Pod) && (f.Namespace == "" || f.Namespace == x.Namespace)
}
