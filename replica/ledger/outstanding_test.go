package ledger

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// work is a second account of what is outstanding, kept from the effects that
// steps asked for and the events that answered them, without a look at the
// ledger. A key is a kind of work and the record it is about; a task is one whatever
// application an event names.
type work map[string]string

func taskWork(kind, task string) string { return kind + " " + task }

// step follows one step.
func (w work) step(event Event, d Delta) {
	if d.Refused == "" {
		w.answered(event)
	}
	for _, effect := range d.Effects {
		w.asked(effect)
	}
	for _, c := range d.Changes {
		switch {
		case c.Task != nil && c.Task.Holder != "":
			w.clear(c.Key, "ask")
		case c.Key.TaskID != "" && c.Deleted():
			w.clear(c.Key, "ask", "bind", "delete", "fail")
		case c.Key.TaskID == "" && (c.Deleted() || c.App.State != AppStateReserving):
			w.clearCreates(c.Key.AppID)
			if c.Deleted() || c.App.State != AppStateSubmitted && c.App.State != AppStateRecovering {
				delete(w, "submit "+c.Key.AppID)
			}
		}
	}
}

// answered takes off what an event confirms.
func (w work) answered(event Event) {
	switch e := event.(type) {
	case AppAccepted:
		delete(w, "submit "+e.AppID)
	case AppRejected:
		delete(w, "submit "+e.AppID)
	case Allocated:
		w.clear(Key{e.AppID, e.TaskID}, "ask")
	case AskRejected:
		w.clear(Key{e.AppID, e.TaskID}, "ask")
	case BindDone:
		w.clear(Key{e.AppID, e.TaskID}, "ask", "bind", "fail")
	case PodFailed:
		w.clear(Key{e.AppID, e.TaskID}, "fail")
	case CompleteTask:
		w.clear(Key{e.AppID, e.TaskID}, "ask", "bind", "delete", "fail")
	case AddTask:
		key := Key{e.AppID, e.ID}
		switch {
		case e.Terminated:
			w.clear(key, "ask", "bind", "delete", "fail")
		case e.Node != "":
			w.clear(key, "ask", "bind", "fail")
		}
		if e.Placeholder {
			delete(w, "create "+e.AppID+" "+e.Name)
		}
	}
}

// asked puts down what an effect asks for, and takes off what it replaces.
func (w work) asked(effect Effect) {
	switch e := effect.(type) {
	case SubmitApp:
		if e.App.State == AppStateSubmitted || e.App.State == AppStateRecovering {
			w["submit "+e.App.ID] = fmt.Sprint(e.Recovery)
		}
	case CreatePlaceholder:
		w["create "+e.App.ID+" "+e.Name] = fmt.Sprint(e.Group, e.Index)
	case CancelPlaceholders:
		w.clearCreates(e.AppID)
	case Ask:
		w[taskWork("ask", e.Task.ID)] = ""
	case Bind:
		w[taskWork("bind", e.Task.ID)] = e.Task.Node
	case FailPod:
		w.clear(Key{e.Task.AppID, e.Task.ID}, "ask")
		w[taskWork("fail", e.Task.ID)] = e.Reason
	case DeletePod:
		w.clear(Key{e.Task.AppID, e.Task.ID}, "ask", "bind", "fail")
		w[taskWork("delete", e.Task.ID)] = ""
	case Release:
		w.clear(Key{e.Task.AppID, e.Task.ID}, "ask", "bind")
	}
}

func (w work) clear(key Key, kinds ...string) {
	for _, kind := range kinds {
		delete(w, taskWork(kind, key.TaskID))
	}
}

func (w work) clearCreates(app string) {
	maps.DeleteFunc(w, func(key, _ string) bool { return strings.HasPrefix(key, "create "+app+" ") })
}

// dueWork brings what Due returns into the same form. Work that is there twice
// is a mistake that shows up in the count.
func dueWork(effects []Effect) (w work, count int) {
	w = make(work)
	for _, effect := range effects {
		if _, creation := effect.(CreatePlaceholder); creation {
			continue // see checkCreations
		}
		w.asked(effect)
		count++
	}
	return w, count
}

func (w work) lines() string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(w)) {
		if strings.HasPrefix(key, "create ") {
			continue
		}
		fmt.Fprintf(&b, "%s %s\n", key, w[key])
	}
	return b.String()
}
