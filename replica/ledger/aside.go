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
	for _, t := range e.sorted() {
		key := Key{AppID: appID, TaskID: t.ID}
		l.putTask(key, nil)
		changes = append(changes, Change{Key: key})
	}
	l.putApp(appID, nil)
	return append(changes, Change{Key: Key{AppID: appID}})
}
