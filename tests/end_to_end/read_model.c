/* Asks an exported model through TensorFlow's C API; no Python in the process.
 *
 * Usage: read_model FOLDER [OPERATION_LIBRARY ...] < request
 *
 * The request, one entry a line:
 *     input OPERATION INDEX string|float|int64 RANK SIZE ...   then its values, one a line
 *     output OPERATION INDEX
 * Prints the values of the outputs, one a line, in the order asked. Strings hold no line breaks.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"
#include "tensorflow/c/tf_tstring.h"

enum { MAX_TENSORS = 64, MAX_RANK = 8, MAX_LINE = 1 << 16 };

static void fail(const char* what, const char* why) {
  fprintf(stderr, "read_model: %s: %s\n", what, why);
  exit(1);
}

static void check(TF_Status* status, const char* what) {
  if (TF_GetCode(status) != TF_OK) fail(what, TF_Message(status));
}

static char* read_line(char* line) {
  if (!fgets(line, MAX_LINE, stdin)) return NULL;
  line[strcspn(line, "\n")] = '\0';
  return line;
}

static TF_Output find(TF_Graph* graph, const char* operation, int index) {
  TF_Output found = {TF_GraphOperationByName(graph, operation), index};
  if (!found.oper) fail(operation, "no such operation");
  return found;
}

static TF_Tensor* read_tensor(const char* type, int rank, const int64_t* sizes) {
  static char line[MAX_LINE];
  int64_t count = 1;
  for (int i = 0; i < rank; ++i) count *= sizes[i];
  const int is_text = strcmp(type, "string") == 0, is_float = strcmp(type, "float") == 0;
  const TF_DataType dtype = is_text ? TF_STRING : is_float ? TF_FLOAT : TF_INT64;
  const size_t width = is_text ? sizeof(TF_TString) : is_float ? sizeof(float) : sizeof(int64_t);
  TF_Tensor* tensor = TF_AllocateTensor(dtype, sizes, rank, width * count);
  void* data = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; ++i) {
    if (!read_line(line)) fail("request", "ends within a tensor");
    if (is_text) {
      TF_TString* text = (TF_TString*)data + i;
      TF_StringInit(text);
      TF_StringCopy(text, line, strlen(line));
    } else if (is_float) {
      ((float*)data)[i] = strtof(line, NULL);
    } else {
      ((int64_t*)data)[i] = strtoll(line, NULL, 10);
    }
  }
  return tensor;
}

static void print_tensor(const TF_Tensor* tensor) {
  const int64_t count = TF_TensorElementCount(tensor);
  const void* data = TF_TensorData(tensor);
  for (int64_t i = 0; i < count; ++i) {
    if (TF_TensorType(tensor) == TF_STRING) {
      const TF_TString* text = (const TF_TString*)data + i;
      printf("%.*s\n", (int)TF_StringGetSize(text), TF_StringGetDataPointer(text));
    } else {
      printf("%.9g\n", ((const float*)data)[i]);
    }
  }
}

int main(int argc, char** argv) {
  static char line[MAX_LINE], operation[MAX_LINE];
  if (argc < 2) fail("usage", "read_model FOLDER [OPERATION_LIBRARY ...] < request");
  TF_Status* status = TF_NewStatus();
  for (int i = 2; i < argc; ++i) {
    TF_LoadLibrary(argv[i], status);
    check(status, argv[i]);
  }
  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session =
      TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(status, argv[1]);

  TF_Output inputs[MAX_TENSORS], outputs[MAX_TENSORS];
  TF_Tensor *fed[MAX_TENSORS], *found[MAX_TENSORS] = {NULL};
  int num_inputs = 0, num_outputs = 0;
  while (read_line(line)) {
    int index, rank, used;
    char type[16];
    if (num_inputs == MAX_TENSORS || num_outputs == MAX_TENSORS) fail("request", "too many tensors");
    if (sscanf(line, "input %s %d %15s %d%n", operation, &index, type, &rank, &used) == 4) {
      int64_t sizes[MAX_RANK];
      if (rank > MAX_RANK) fail(operation, "its rank is too large");
      char* rest = line + used;
      for (int i = 0; i < rank; ++i) sizes[i] = strtoll(rest, &rest, 10);
      inputs[num_inputs] = find(graph, operation, index);
      fed[num_inputs++] = read_tensor(type, rank, sizes);
    } else if (sscanf(line, "output %s %d", operation, &index) == 2) {
      outputs[num_outputs++] = find(graph, operation, index);
    } else {
      fail("request, no entry", line);
    }
  }
  TF_SessionRun(session, NULL, inputs, fed, num_inputs, outputs, found, num_outputs, NULL, 0, NULL,
                status);
  check(status, "run");
  for (int i = 0; i < num_outputs; ++i) print_tensor(found[i]);
  return 0;
}
