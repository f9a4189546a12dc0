package workload

// Labels and annotations that YuniKorn workloads use.
const (
	KeyAppID = "yunikorn.apache.org/app-id"
	KeyQueue = "yunikorn.apache.org/queue"

	AnnotationIgnore          = "yunikorn.apache.org/ignore-application"
	AnnotationUserInfo        = "yunikorn.apache.org/user.info"
	AnnotationPlaceholder     = "yunikorn.apache.org/placeholder"
	AnnotationTaskGroupName   = "yunikorn.apache.org/task-group-name"
	AnnotationTaskGroups      = "yunikorn.apache.org/task-groups"
	AnnotationPolicy          = "yunikorn.apache.org/schedulingPolicyParameters"
	AnnotationAllowPreemption = "yunikorn.apache.org/allow-preemption"
	// AnnotationPlaceholderInternal takes precedence over AnnotationPlaceholder.
	AnnotationPlaceholderInternal = "internal.yunikorn.apache.org/placeholder"

	LabelOldAppID          = "applicationId"
	LabelSparkAppID        = "spark-app-selector"
	LabelOldQueue          = "queue"
	LabelPlaceholder       = "placeholder"
	LabelDisableStateAware = "disableStateAware"
	DefaultUserLabel       = "yunikorn.apache.org/username"
	DefaultSchedulerName   = "yunikorn"
	DefaultUser            = "nobody"
	generatedAppIDPrefix   = "yunikorn-"
	generatedAppIDSuffix   = "-autogen"
	annotationParentQueue  = "yunikorn.apache.org/parentqueue"
	annotationQuota        = "yunikorn.apache.org/namespace.quota"
	annotationGuaranteed   = "yunikorn.apache.org/namespace.guaranteed"
	annotationMaxApps      = "yunikorn.apache.org/namespace.maxApps"
	annotationOldMaxCPU    = "yunikorn.apache.org/namespace.max.cpu"
	annotationOldMaxMemory = "yunikorn.apache.org/namespace.max.memory"
)

// Tags of an application. The raw annotations for gangs and users are tags
// under their own keys.
const (
	TagNamespace         = "namespace"
	TagStateAwareDisable = "application.stateaware.disable"
	// TagImagePullSecrets and TagPriorityClass are what placeholders take over
	// from the pod that declared their gang: names of Secrets, separated by
	// commas, and of a PriorityClass.
	TagImagePullSecrets = "imagePullSecrets"
	TagPriorityClass    = "priorityClassName"

	tagParentQueue = "namespace.parentqueue"
	tagQuota       = "namespace.resourcequota"
	tagGuaranteed  = "namespace.resourceguaranteed"
	tagMaxApps     = "namespace.resourcemaxapps"
)
