package ledger

// Kind returns its name.
func (AddApp) Kind() string { return "AddApp" }

// Kind returns its name.
func (AddTask) Kind() string { return "AddTask" }

// Kind returns its name.
func (SetCrew) Kind() string { return "SetCrew" }

// Kind returns its name.
func (CompleteTask) Kind() string { return "CompleteTask" }

// Kind returns its name.
func (RemoveTask) Kind() string { return "RemoveTask" }

// Kind returns its name.
func (CompleteApp) Kind() string { return "CompleteApp" }

// Kind returns its name.
func (FailApp) Kind() string { return "FailApp" }

// Kind returns its name.
func (KillApp) Kind() string { return "KillApp" }

// Kind returns its name.
func (RemoveApp) Kind() string { return "RemoveApp" }

// Kind returns its name.
func (AppAccepted) Kind() string { return "AppAccepted" }

// Kind returns its name.
func (AppRejected) Kind() string { return "AppRejected" }

// Kind returns its name.
func (AppEnded) Kind() string { return "AppEnded" }

// Kind returns its name.
func (Allocated) Kind() string { return "Allocated" }

// Kind returns its name.
func (Released) Kind() string { return "Released" }

// Kind returns its name.
func (AskReleased) Kind() string { return "AskReleased" }

// Kind returns its name.
func (AskRejected) Kind() string { return "AskRejected" }

// Kind returns its name.
func (BindDone) Kind() string { return "BindDone" }

// Kind returns its name.
func (BindFailed) Kind() string { return "BindFailed" }

// Kind returns its name.
func (NodeLost) Kind() string { return "NodeLost" }

// Kind returns its name.
func (PlaceholderFailed) Kind() string { return "PlaceholderFailed" }

// Kind returns its name.
func (PlaceholderDelayed) Kind() string { return "PlaceholderDelayed" }

// Kind returns its name.
func (DeleteFailed) Kind() string { return "DeleteFailed" }

// Kind returns its name.
func (PodNotFailed) Kind() string { return "PodNotFailed" }

// Kind returns its name.
func (PodFailed) Kind() string { return "PodFailed" }

// Kind returns its name.
func (RemoveDoubles) Kind() string { return "RemoveDoubles" }

// Kind returns its name.
func (Continue) Kind() string { return "Continue" }

// Kind returns its name.
func (Tick) Kind() string { return "Tick" }

// Kind returns its name.
func (SubmitApp) Kind() string { return "SubmitApp" }

// Kind returns its name.
func (ForgetApp) Kind() string { return "ForgetApp" }

// Kind returns its name.
func (Ask) Kind() string { return "Ask" }

// Kind returns its name.
func (Restore) Kind() string { return "Restore" }

// Kind returns its name.
func (Release) Kind() string { return "Release" }

// Kind returns its name.
func (Bind) Kind() string { return "Bind" }

// Kind returns its name.
func (AssessGang) Kind() string { return "AssessGang" }

// Kind returns its name.
func (CreatePlaceholder) Kind() string { return "CreatePlaceholder" }

// Kind returns its name.
func (CancelPlaceholders) Kind() string { return "CancelPlaceholders" }

// Kind returns its name.
func (DeletePod) Kind() string { return "DeletePod" }

// Kind returns its name.
func (FailPod) Kind() string { return "FailPod" }

// Kind returns its name.
func (ReportTask) Kind() string { return "ReportTask" }
