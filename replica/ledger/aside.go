package ledger

// SetAside forgets an application and its tasks, whatever their states, and returns
// the changes. It asks for nothing: the caller rebuilds the application from what its
// pods say.
func (l *Ledger) SetAside(appID string) []Change {
	e := l.apps[appID]
	if e == nil {
		return nil
	}
	var changes []Change
	tasks := e.sorted()
	for _, double := range e.doubles {
		tasks = append(tasks, double)
	}
	for _, t := range inOrder(tasks) {
		key := Key{AppID: appID, TaskID: t.ID}
		l.applyTask(key, nil)
		changes = append(changes, Change{Key: key})
	}
	l.applyApp(appID, nil)
	return append(changes, Change{Key: Key{AppID: appID}})
}
