package ledger

// failPod has a pod fail that was never placed, so that its controller makes another;
// the task ends when the pod says that it has failed.
func (s *step) failPod(n *entry, t *Task, reason, message string) {
	if t.FailPod {
		return
	}
	task := s.editTask(n, t)
	task.FailPod, task.Reason, task.Message, task.Retries = true, reason, message, 0
	s.schedule(task, 0)
	if task.State == TaskStateScheduling {
		s.effect(Release{Task: task, Termination: StoppedByRM})
	}
	s.effect(ReportTask{Task: task, Warning: true, Reason: reason, Message: message})
	s.effect(FailPod{Task: task, Reason: reason})
}

// podNotFailed plans the next attempt at failing a pod.
func (s *step) podNotFailed(n *entry, t *Task, message string, refused bool) {
	if !t.FailPod {
		s.refuse("pod of task %s is not being failed", t.ID)
		return
	}
	task := s.editTask(n, t)
	if task.Retries == 0 { // Message says why the pod is to fail; others of it are alike.
		s.effect(ReportTask{Task: task, Warning: true, Reason: "FailedUpdate", Message: message})
	}
	s.retry(task, limitOf(refused))
}

// deleteFailed plans the next attempt at deleting a pod. It goes on for as long as the
// pod is there, which holds its resources.
func (s *step) deleteFailed(n *entry, t *Task, message string, refused bool) {
	if !t.DeletePod {
		s.refuse("pod of task %s is not being deleted", t.ID)
		return
	}
	s.failedAttempt(n, t, reasonFailedDelete, message, limitOf(refused))
}

func (s *step) podFailed(n *entry, t *Task) {
	if !t.FailPod {
		s.refuse("pod of task %s is not being failed", t.ID)
		return
	}
	s.moveTask(n, t, taskRejected)
	task := s.moveTask(n, t, taskFail)
	task.FailPod = false
	s.schedule(task, 0)
}
