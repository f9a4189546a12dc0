// Package spark is the app manager of the Spark operator's SparkApplications
// (sparkoperator.k8s.io/v1beta2), also of those that a ScheduledSparkApplication makes.
// It knows the operator's resource by its fields alone and needs no module of it.
//
// Every attempt at a SparkApplication is an application of its own: its ID is what the
// pods are labelled with, spark-app-selector as a rule, which the operator shows as
// status.sparkApplicationId. An attempt begins with its first pod, and ends as the state
// of the SparkApplication says, or when another attempt takes its place. Executors that
// outlive their driver keep their nodes, and are counted until they end; those that have
// none by then get none. Pods that are labelled with an application ID of their own share
// that application with others; it ends when its pods have.
//
// The driver's pod describes the application, as everywhere in YuniKorn. Where it says
// nothing the SparkApplication does: batchSchedulerOptions.queue, and proxyUser. The task
// groups that the operator writes on the driver lack GPUs and whatever else a pod may
// request beside CPU and memory, so that a placeholder would hold too little. They are
// completed from what the driver's pod requests, and from what the SparkApplication has
// the executors request; an Event says so.
//
// The operator writes the status of a SparkApplication; this manager only reads it.
//
// Guarantees:
//
//   - The end of an attempt is reported once per replica, and again only if a pod of it
//     is reported later.
//   - A pod of the operator is claimed once it is known which SparkApplications there are,
//     and then always reported: with its SparkApplication gone, or without the operator's
//     resource, as the pod itself says.
package spark
