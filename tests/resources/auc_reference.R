# Reference values of ROC AUC, its variance and covariance, and the p value of two tests on the same units.
#
# Rscript auc_reference.R doAUCcluster.R   (in this folder; reads auc_cases.csv, writes auc_reference.csv)
#
# method "delong":     every unit is a patient of its own; R's pROC (Debian: r-cran-proc).
# method "obuchowski": patients as clusters; the two-test branch of doAUCcluster.R of the package mitoticFigureCounts
#                      (DIDSR), which holds the R functions that the author of the method published at the Cleveland
#                      Clinic. It is not kept here.
# auc_cases.csv holds made-up scores alone.

suppressMessages(library(pROC))
source(commandArgs(trailingOnly = TRUE)[1])

compare_delong <- function(cases) {
  first <- roc(cases$positive, cases$first, direction = "<", quiet = TRUE)
  second <- roc(cases$positive, cases$second, direction = "<", quiet = TRUE)
  data.frame(
    method = "delong", auc_first = as.numeric(auc(first)), auc_second = as.numeric(auc(second)),
    variance_first = pROC::var(first, method = "delong"), variance_second = pROC::var(second, method = "delong"),
    covariance = pROC::cov(first, second, method = "delong"),
    p_value = roc.test(first, second, method = "delong", paired = TRUE)$p.value
  )
}

compare_obuchowski <- function(cases) {
  found <- doAUCcluster(cases$first, cases$second, cases$positive, cases$patient)
  data.frame(
    method = "obuchowski", auc_first = found$auc.A, auc_second = found$auc.B,
    variance_first = found$auc.var.A, variance_second = found$auc.var.B,
    covariance = (found$auc.var.A + found$auc.var.B - found$auc.var.AminusB) / 2, p_value = found$p.value
  )
}

cases <- read.csv("auc_cases.csv")
rows <- lapply(split(cases, cases$set), function(one) {
  cbind(set = one$set[1], rbind(compare_delong(one), compare_obuchowski(one)))
})
found <- do.call(rbind, rows)
numbers <- sapply(found, is.numeric)
found[numbers] <- lapply(found[numbers], formatC, digits = 15, format = "g")
write.csv(found, "auc_reference.csv", row.names = FALSE, quote = FALSE)
